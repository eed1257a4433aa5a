"""`tokens.toml`, in which earlier versions kept the tokens of a palace: it is read once, into the palace's table.

[laptop]
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scope = "read"
wings = ["kitchen"]
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import ConfigurationError, InvalidArgument
from mempalace_mcp.core.files import explain_os_error, sync_directory
from mempalace_mcp.storage.tokens import Token, TokenStore, validate_token
from mempalace_mcp.storage.transactions import Writer

FILE = "tokens.toml"
TAKEN_OVER = "tokens.toml.imported"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"sha256", "scope", "wings"}
_LARGEST_FILE = 1024 * 1024
_OTHERS = 0o077
_MAKE_ANEW = "Remove it, and make tokens with `mempalace-mcp token new NAME --scope write`."
_OPENING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def take_over(directory: Path, writer: Writer, store: TokenStore) -> None:
    """Move the tokens of the file, if there is one, into the table, and rename the file to `TAKEN_OVER`.

    A crash in between does no harm: names that the table knows are not taken again, not even revoked ones.

    Raises:
        ConfigurationError: other users can read or change the file, something in it is wrong, or it holds no token.
        StorageError: the palace or its directory cannot be written.
    """
    file = directory / FILE
    tokens = read_tokens(file)
    if tokens is None:
        return
    if not tokens:
        raise _wrong(file, "holds no token", _MAKE_ANEW)
    writer.write(lambda tx: store.take_over(tx, tokens), Deadline(COMMAND_SECONDS))
    try:
        with suppress(FileNotFoundError):  # another process has taken it over at the same time
            file.replace(directory / TAKEN_OVER)
        sync_directory(directory)
    except OSError as error:
        raise explain_os_error(error, file) from error


def read_tokens(file: Path) -> tuple[Token, ...] | None:
    """The tokens in the file; None if there is no file.

    Raises:
        ConfigurationError: other users can read or change it, or something in it is wrong.
    """
    try:
        descriptor = os.open(file, _OPENING)
    except FileNotFoundError:
        return None
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


def _verify_private(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _wrong(file, "is not a regular file", _MAKE_ANEW)
    if not platform.HAS_FILE_MODES:
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
        return validate_token(name, bytes.fromhex(digest), str(scope), wings)
    except InvalidArgument as error:
        field = error.argument if error.argument in _FIELDS else None
        raise wrong(f"{error.message}. {error.hint}", field) from error


def _line_of(content: str, name: str, field: str | None) -> int:
    """The line of a token's field, or of the token's header; 1 if it is written in an unusual way."""
    header = re.compile(rf"\s*(\[\s*)?[\"']?{re.escape(name)}[\"']?\s*[\]=.]")
    wanted = re.compile(rf"\s*[\"']?{re.escape(field or '')}[\"']?\s*=")
    header_line = 0
    for number, line in enumerate(content.splitlines(), 1):
        if header.match(line):
            header_line = number
            if field is None:
                break
        elif header_line and line.lstrip().startswith("["):
            break
        elif header_line and wanted.match(line):
            return number
    return header_line or 1


def _wrong(
    file: Path, problem: str, hint: str = "Correct it, or remove it and make the token anew with `token new`."
) -> ConfigurationError:
    return ConfigurationError(f"{file} {problem}", argument=FILE, hint=hint)
