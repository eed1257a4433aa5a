"""The file of tokens: who may use the HTTP doors, and how far. It holds digests, never a token.

    [laptop]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scope = "read"
    wings = ["kitchen"]

A token is random and long, so that a plain SHA-256 of it is safe to keep. Without `wings` it reaches the whole palace.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.errors import ConfigurationError, InvalidArgument
from mempalace_mcp.core.files import PRIVATE_FILE, explain_os_error, sync_directory
from mempalace_mcp.core.text import read_name

FILE = "tokens.toml"
READ, WRITE = "read", "write"
SCOPES = (READ, WRITE)
PREFIX = "palace_"
"""Of every token, so that people and scanners for secrets know one when they see it."""

_HEAD = "# Who may use the HTTP doors. The tokens themselves are kept nowhere: this file is written by `token new`.\n"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"sha256", "scope", "wings"}
_RANDOM_BYTES = 32
_LARGEST_FILE = 1024 * 1024
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token: its digest and what its bearer may do. `wings` are as written, None for all."""

    name: str
    digest: bytes
    scope: str
    wings: tuple[str, ...] | None = None

    @property
    def access(self) -> Access:
        """What its bearer may do."""
        keys = None if self.wings is None else tuple(sorted({read_name(wing, "wing").key for wing in self.wings}))
        return Access(self.name, self.scope == WRITE, keys)


def new_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(token: str) -> bytes:
    """By what a token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_token(name: str, digest: bytes, scope: str, wings: Iterable[str]) -> Token:
    """A token as somebody asks for it.

    Raises:
        InvalidArgument: the name, the scope or a wing cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r} cannot be the name of a token", argument="name", hint="Use letters, digits, - and _."
        )
    if scope not in SCOPES:
        raise InvalidArgument(f"scope is {scope[:80]!r}", argument="scope", hint=f"Use {READ} or {WRITE}.")
    named = tuple(read_name(wing, "wings").shown for wing in wings)
    return Token(name, digest, scope, named or None)


def read_tokens(file: Path) -> tuple[Token, ...]:
    """The tokens in the file; none if there is no file.

    Raises:
        ConfigurationError: others than this user can read or change it, or something in it is wrong.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _wrong(file, f"cannot be opened: {error.strerror}", "Make it a file that this user can read.") from error
    with os.fdopen(descriptor, "rb") as opened:
        _verify_private(file, os.fstat(descriptor))
        data = opened.read(_LARGEST_FILE)
    try:
        content = data.decode("utf-8")
        tables = tomllib.loads(content)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _wrong(file, f"is no TOML: {error}") from error
    return tuple(_read_table(file, content, name, table) for name, table in tables.items())


def write_tokens(file: Path, tokens: Iterable[Token]) -> None:
    """Replace the file, for this user alone.

    Raises:
        StorageError: it cannot be written.
    """
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write("\n".join([_HEAD, *map(_table, tokens)]))
            opened.flush()
            os.fsync(descriptor)
        draft.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise explain_os_error(error, file) from error


_MAKE_ANEW = "Remove it, and make tokens with `mempalace-mcp token new NAME --scope write`."


def _verify_private(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _wrong(file, "is not a regular file", _MAKE_ANEW)
    if os.name == "nt":
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise _wrong(file, "belongs to another user", _MAKE_ANEW)
    if status.st_mode & _OTHERS:
        raise _wrong(file, f"is open to other users ({stat.filemode(status.st_mode)})", f"Run: chmod 600 {file}")


def _read_table(file: Path, content: str, name: str, table: Any) -> Token:
    def wrong(problem: str, field: str | None = None) -> ConfigurationError:
        return _wrong(file, f"is wrong in line {_line_of(content, name, field)}: {problem}")

    if not isinstance(table, Mapping):
        raise wrong("each token is a table, as [laptop]")
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise wrong(f"{unknown[0][:80]} is unknown; there are {', '.join(sorted(_FIELDS))}", unknown[0])
    digest, scope, wings = table.get("sha256"), table.get("scope"), table.get("wings", [])
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise wrong("sha256 must be 64 hexadecimal digits", "sha256")
    if "wings" in table and not (isinstance(wings, list) and wings and all(isinstance(wing, str) for wing in wings)):
        raise wrong('wings must be a list of names, as ["kitchen"]; leave it out for all wings', "wings")
    try:
        return read_token(name, bytes.fromhex(digest), str(scope), wings)
    except InvalidArgument as error:
        field = error.argument if error.argument in _FIELDS else None
        raise wrong(f"{error.message}. {error.hint}", field) from error


def _line_of(content: str, name: str, field: str | None) -> int:
    """Where the field of a token stands, or where the token begins; the first line if it is written in another way."""
    header = re.compile(rf"\s*(\[\s*)?[\"']?{re.escape(name)}[\"']?\s*[\]=.]")
    wanted = re.compile(rf"\s*[\"']?{re.escape(field or '')}[\"']?\s*=")
    begun = 0
    for number, line in enumerate(content.splitlines(), 1):
        if header.match(line):
            begun = number
            if field is None:
                break
        elif begun and line.lstrip().startswith("["):
            break
        elif begun and wanted.match(line):
            return number
    return begun or 1


def _table(token: Token) -> str:
    lines = [f"[{token.name}]", f'sha256 = "{token.digest.hex()}"', f'scope = "{token.scope}"']
    if token.wings is not None:
        lines.append(f"wings = {json.dumps(list(token.wings), ensure_ascii=False)}")
    return "\n".join([*lines, ""])


def _wrong(
    file: Path, problem: str, hint: str = "Correct it, or make the token anew with `token new`."
) -> ConfigurationError:
    return ConfigurationError(f"{file} {problem}", argument=FILE, hint=hint)
