"""Addresses of the palace: `palace://wing`, `palace://wing/room`, `palace://wing/room/drawer`.

Each part is percent-encoded as RFC 6570 expands a simple variable: every byte of its UTF-8 but the unreserved ones of
RFC 3986. So any name survives, whatever it holds, and the templates below are exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from mempalace_mcp.core.errors import InvalidArgument

SCHEME = "palace://"
WING_TEMPLATE = "palace://{wing}"
ROOM_TEMPLATE = "palace://{wing}/{room}"
DRAWER_TEMPLATE = "palace://{wing}/{room}/{drawer}"

MAX_URI_CHARACTERS = 8192
_PARTS = 3
_ENCODED = re.compile(r"(?:[^%?#]|%[0-9A-Fa-f]{2})+")
_DOTS = (".", "..")


@dataclass(frozen=True, slots=True)
class Address:
    """What an URI names, decoded: a wing, a room of it, or a drawer in that."""

    wing: str
    room: str | None = None
    drawer: str | None = None


def write_uri(wing: str, room: str | None = None, drawer: str | None = None) -> str:
    """The URI of a wing, a room or a drawer."""
    return SCHEME + "/".join(_encode(part) for part in (wing, room, drawer) if part is not None)


def read_uri(uri: str) -> Address:
    """What the URI names; whether there is such a thing is another question.

    Raises:
        InvalidArgument: it names nothing that could be in a palace.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise _refusal(f"has {len(uri):,} characters; the limit is {MAX_URI_CHARACTERS:,}")
    if uri[: len(SCHEME)].lower() != SCHEME:
        raise _refusal("does not begin with palace://")
    parts = uri[len(SCHEME) :].split("/")
    if len(parts) > _PARTS:
        raise _refusal("has more than three parts; a slash in a name is written %2F")
    return Address(*map(_decode, parts))


def _encode(name: str) -> str:
    """A name of dots alone gets a space behind it, which names are trimmed of: clients that normalize URIs would take
    it for a step up or down, even percent-encoded."""
    return quote(f"{name} " if name in _DOTS else name, safe="")


def _decode(part: str) -> str:
    if not _ENCODED.fullmatch(part):
        raise _refusal("has an empty part, a stray ?, # or %")
    try:
        return unquote_to_bytes(part.encode("utf-8")).decode("utf-8")
    except UnicodeError:
        raise _refusal("is not UTF-8") from None


def _refusal(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"the URI {problem}",
        argument="uri",
        hint=f"Use {WING_TEMPLATE}, {ROOM_TEMPLATE} or {DRAWER_TEMPLATE}, each part percent-encoded.",
    )
