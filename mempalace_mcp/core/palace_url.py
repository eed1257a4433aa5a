"""The address of a palace that lies in PostgreSQL: `postgresql://user@host/database?schema=name`.

Beside the parameters of libpq it has two of the palace: `schema`, the schema that holds the palace, and `prepare=no`,
for a pooler that gives each transaction another connection.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from zlib import crc32

SCHEMES = ("postgresql", "postgres")
DEFAULT_SCHEMA = "mempalace"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_NAME_LETTERS = 60
_SECRETS = ("password", "sslpassword")
_RESERVED = re.compile(r"pg_.*|information_schema|public")


class PalaceUrl:
    """Where the palace is. `conninfo` is what libpq gets; it may hold a password and is never shown, nor is the `text`
    of the whole address.

    `prepares` is false where connections must not keep prepared statements.
    """

    # Not a dataclass: each bridge and hook of such a palace would pay for importing what makes one.
    __slots__ = ("conninfo", "prepares", "schema", "shown", "text")

    def __init__(self, text: str, conninfo: str, schema: str, prepares: bool, shown: str) -> None:
        self.text = text
        self.conninfo = conninfo
        self.schema = schema
        self.prepares = prepares
        self.shown = shown

    @property
    def key(self) -> str:
        """A name for a file, the same for every address that names hosts, ports, database and schema alike."""
        encoded = self.shown.partition("://")[2].encode()
        letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in encoded.decode())
        # Not a digest: a hook would wait longer for hashlib than for everything else.
        return f"{letters[-_NAME_LETTERS:]}.{len(encoded):x}{crc32(encoded):08x}"

    @property
    def without_password(self) -> str:
        """The address for PostgreSQL's own programs, in a command that a person may be shown."""
        parts = urlsplit(self.conninfo)
        user, at, hosts = parts.netloc.rpartition("@")
        options = {
            name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _SECRETS
        }
        netloc = f"{user.partition(':')[0]}{at}{hosts}"
        return _joined(netloc, parts.path, options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PalaceUrl) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"PalaceUrl({self.shown})"

    def __str__(self) -> str:
        return self.shown


def read_url(text: str) -> PalaceUrl:
    """Read an address. Errors do not show it, since it may hold a password.

    Raises:
        ValueError: it is not the address of a palace.
    """
    try:
        parts = urlsplit(text.strip())
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        _ = parts.port if "," not in parts.netloc else None
    except ValueError as error:
        raise ValueError("must be postgresql://user@host:port/database?schema=name") from error
    if parts.scheme.lower() not in SCHEMES:
        raise ValueError("must begin with postgresql://")
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema) or _RESERVED.fullmatch(schema):
        raise ValueError("schema must be a name of its own out of small letters, digits and _, not `public`")
    prepare = options.pop("prepare", "yes")
    if prepare not in ("yes", "no"):
        raise ValueError("prepare must be yes or no")
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError("must have no / ? # in user and password: write %2F %3F %23")
    conninfo = _joined(parts.netloc, parts.path, options)
    return PalaceUrl(
        text.strip(), conninfo, schema, prepare == "yes", _shown(parts.netloc, parts.path, options, schema)
    )


def _joined(netloc: str, path: str, options: dict[str, str]) -> str:
    # `urlunsplit` leaves out the slashes where no host stands, as before the path of a socket.
    return f"postgresql://{netloc}{path}{'?' if options else ''}{urlencode(options, quote_via=quote)}"


def _shown(netloc: str, path: str, options: dict[str, str], schema: str) -> str:
    """The address without user, password and settings."""
    hosts = netloc.rpartition("@")[2]
    if not hosts:
        hosts = ",".join(
            f"{host}:{port}" if port else host
            for host, port in _pairs(options.get("host", ""), options.get("port", ""))
        )
    database = unquote(path.lstrip("/")) or options.get("dbname", "")
    return f"postgresql://{hosts or 'localhost'}/{database}?schema={schema}"


def _pairs(hosts: str, ports: str) -> list[tuple[str, str]]:
    found, numbers = hosts.split(","), ports.split(",")
    return [(host, numbers[place if len(numbers) > place else -1]) for place, host in enumerate(found)]
