"""What PostgreSQL's errors mean for the palace, by their SQLSTATE.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import psycopg

from mempalace_mcp.core.errors import (
    Busy,
    ConfigurationError,
    DeadlineExceeded,
    PalaceCorrupt,
    PalaceError,
    PalaceMissing,
    StorageError,
    StorageFull,
    StorageReadOnly,
)
from mempalace_mcp.core.palace_url import PalaceUrl

URL = "PALACE_URL"
"""The argument that errors about the address name."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What some states mean: the error, its message with places for the address and the server's words, the remedy.

    A state is given whole or, with two characters, as a class. `passing` says that the same transaction may succeed
    later, on another connection.
    """

    states: Collection[str]
    error: type[PalaceError]
    message: str
    hint: str
    passing: bool = False


_FULL = "53300"
_REFUSED = "refused"
_UNENCRYPTED = "unencrypted"
_MISNAMED = "misnamed"
_UNREACHABLE = "unreachable"
"""What libpq reports without a state: the server does not admit the user, the two do not agree how to encrypt, the
address makes no sense, or there is no connection."""

_FAILURES = (
    Failure(
        ("55P03", "57014"), DeadlineExceeded, "waited too long for {url} ({text}); nothing was written", "Try again."
    ),
    Failure(
        ("53100", "53200"),
        StorageFull,
        "no space left at {url} ({text}); nothing of this call was written",
        "Free some space on the database's machine, then try again.",
    ),
    Failure(
        (_FULL,),
        Busy,
        "{url} takes no more connections ({text})",
        "Try again. If it stays so, raise max_connections (or the limit of the user, the database or the pooler), or"
        " put a pooler in front of PostgreSQL and add prepare=no to the address.",
        passing=True,
    ),
    Failure(
        ("3F000", "42P01"),
        PalaceMissing,
        "the palace is not at {url} any more ({text})",
        "Restore the schema, then reconnect.",
    ),
    Failure(
        ("XX001", "XX002"),
        PalaceCorrupt,
        "PostgreSQL cannot read {url} ({text})",
        "Restore a backup of the database.",
    ),
    Failure(
        ("26000", "42P05", "08P01"),
        ConfigurationError,
        "a pooler before {url} mixes up prepared statements ({text})",
        "Add prepare=no to the address, as in postgresql://host/database?prepare=no.",
    ),
    Failure(
        ("25006",),
        StorageReadOnly,
        "{url} is a standby, which cannot be written",
        "Name all hosts in the address, as host-a,host-b: the primary is found then.",
        passing=True,
    ),
    Failure(
        ("42501",),
        StorageReadOnly,
        "the user may not do this at {url} ({text})",
        "As the owner of the database: GRANT CREATE ON DATABASE name TO user. Or let the user own the schema.",
    ),
    Failure(
        ("28", "3D000", _REFUSED),
        ConfigurationError,
        "{url} cannot be opened: {text}",
        "Correct user, password (also in PGPASSFILE) or database in PALACE_URL, or let pg_hba.conf admit the user.",
    ),
    Failure(
        (_UNENCRYPTED,),
        ConfigurationError,
        "{url} cannot be opened: {text}",
        "Where the server demands encryption, add sslmode=verify-full to the address, and sslrootcert=FILE with the"
        " certificate of its authority (or sslrootcert=system). Where it offers none, switch ssl on there. Its"
        " pg_hba.conf says whom it admits, and how.",
    ),
    Failure(
        (_MISNAMED,),
        ConfigurationError,
        "{url} cannot be opened: {text}",
        "Correct host, port or parameters in PALACE_URL. They are those of libpq, and schema and prepare.",
    ),
    Failure(
        ("08", "40001", "40P01", "57P", "25P03", "25P04", "25001", _UNREACHABLE),
        Busy,
        "{url} cannot be reached ({text})",
        "Try again. If it stays so, see whether PostgreSQL runs, and whether PALACE_URL names its host and port.",
        passing=True,
    ),
)
"""The first that fits counts."""

_OF_LIBPQ = (
    (_FULL, ("too many c", "connection slots are reserved", "no more connections allowed")),
    (_UNENCRYPTED, ("no encryption", "certificate", "not support SSL", "SSL off", "SSL on", "SSL error: unsupported")),
    (_MISNAMED, ("invalid response to SSL", "expected authentication request", "connection is bad: invalid")),
    (_MISNAMED, ("unrecognized configuration parameter", "unsupported startup parameter", "definition of service")),
    (_REFUSED, ("password", "authentication failed", "pg_hba.conf", "role ", 'database "', "no such user")),
)
"""Parts of its messages, and those of servers that speak English. The first that fits counts."""

_OF_STANDBYS = ("session is read-only", "server is in hot standby mode")

_BEFORE_WORDS = re.compile(r".*(?:failed: |connection is bad: )")


def state_of(error: BaseException | None) -> str:
    """The SQLSTATE; empty where the server has given none, as when the connection breaks."""
    return (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""


def is_passing(error: BaseException | None) -> bool:
    """May the same transaction succeed later, on another connection?"""
    failure = _failure_of(error) if isinstance(error, psycopg.Error) else None
    return failure is not None and failure.passing


def is_damage(error: psycopg.Error) -> bool:
    """Are there tables or indexes that cannot be read, or are not there?"""
    return state_of(error).startswith("XX") or state_of(error) == "42P01"


def explain(error: psycopg.Error, url: PalaceUrl) -> PalaceError:
    """The palace's error for one of PostgreSQL's about the palace at an address."""
    failure, state, text = _failure_of(error), state_of(error), _words(error)
    if failure is not None:
        kind, message = failure.error, failure.message.format(url=url, text=text)
        if issubclass(kind, ConfigurationError):
            return kind(message, argument=URL, hint=failure.hint)
        return kind(message, hint=failure.hint)
    if not state:
        return StorageError(f"{url} cannot be used ({text})", hint="See the log of PostgreSQL.")
    return PalaceError(
        f"PostgreSQL refused a statement ({state}: {text})", hint="This is a fault of the program; please report it."
    )


def _failure_of(error: psycopg.Error) -> Failure | None:
    state = state_of(error) or _state_of_libpq(error)
    return next((each for each in _FAILURES if any(_fits(state, one) for one in each.states)), None)


def _fits(state: str, known: str) -> bool:
    return state == known or (len(known) < 5 and state.startswith(known))


def _state_of_libpq(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.ProgrammingError):  # psycopg reads the address before it connects
        return _MISNAMED
    if not isinstance(error, psycopg.OperationalError):
        return ""
    text = str(error)
    if all(any(part in said for part in _OF_STANDBYS) for said in _each_host(text) or [text]):
        return "25006"  # where another host is out of reach, a standby may be about to take its place
    return next((state for state, parts in _OF_LIBPQ if any(part in text for part in parts)), _UNREACHABLE)


def _each_host(text: str) -> list[str]:
    """What libpq says of each of several hosts."""
    return [line for line in text.splitlines() if line.startswith("- host: ")]


def _words(error: psycopg.Error) -> str:
    """What the server says, or each server. libpq's messages begin with the address, which is left out."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = dict.fromkeys(_BEFORE_WORDS.sub("", line) for line in _each_host(str(error)) or lines[:1])
    # libpq shows what it cannot decode, which may be a part of a password.
    return error.diag.message_primary or "; ".join(said).partition("encoded token:")[0][:300]
