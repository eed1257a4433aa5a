"""Tokens of a palace: how they are stored, read anew and checked.

Whether a file is still as it was, without a word to its disk.

The file of tokens: who may use the HTTP doors, and how far. It holds digests, never a token.

    [laptop]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scope = "read"
    wings = ["kitchen"]

A token is random and long, so that a plain SHA-256 of it is safe to keep. Without `wings` it reaches the whole palace.

The tokens that open the HTTP doors at this moment: those of the file, followed as it changes, and one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import queue
import re
import secrets
import stat
import threading
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core import platform
from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import Busy, ConfigurationError, InvalidArgument
from mempalace_mcp.core.files import PRIVATE_FILE, explain_os_error, sync_directory
from mempalace_mcp.core.text import read_name

_SETTLED_NS = 100_000_000
"""Changes so close together may bear the same time."""

_HOLD = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

_Stamps = list[tuple[int, int, int, int, int]]


class FileChange:
    """Holds a file, if there is one, and its folder open from one look at them on: what the system knows of an open
    file it has in memory. A file that is made, removed or replaced changes its folder, or loses its name."""

    def __init__(self, file: Path) -> None:
        self._descriptors: list[int] = []
        for path in (file.parent, file):
            with contextlib.suppress(OSError):
                self._descriptors.append(os.open(path, _HOLD))
        self._stamps = self._look()
        newest = max((max(stamp[3:]) for stamp in self._stamps), default=0)
        self._is_settled = bool(self._stamps) and time.time_ns() - newest > _SETTLED_NS

    def shows_no_change(self) -> bool:
        """True if the file is certainly what it was."""
        return self._is_settled and self._look() == self._stamps

    def close(self) -> None:
        """Let go of both."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def _look(self) -> _Stamps:
        statuses = map(os.fstat, self._descriptors)
        return [(each.st_nlink, each.st_size, each.st_mode, each.st_mtime_ns, each.st_ctime_ns) for each in statuses]


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
    def access(self) -> Principal:
        """What its bearer may do."""
        keys = None if self.wings is None else tuple(sorted({read_name(wing, "wing").key for wing in self.wings}))
        return Principal(self.name, self.scope == WRITE, keys)


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


logger = logging.getLogger(__name__)

OWN = "$PALACE_TOKEN"
"""The name of the token that comes from the environment, and reaches everything; no token of the file can have it."""

_Stamp = tuple[int, int, int, int]


LOOK_SECONDS = 5.0
"""A disk that has not answered by then is not waited for."""


class TokenStore:
    """`look` reads the file if it has changed, everything else memory only. One that is wrong then changes nothing, and
    is a `problem`. A file that is removed takes its tokens along.

    Raises:
        ConfigurationError: the file is wrong at the start, or there is one, and no token at all.
    """

    def __init__(self, file: Path, own: str | None = None) -> None:
        self.file = file
        self._own = () if own is None else (Token(OWN, digest_of(own), WRITE),)
        self._stamp = self._stamp_of_file()
        self._tokens = read_tokens(file)
        self._guarding = bool(self._own) or self._stamp is not None
        self.problem: str | None = None
        if self._guarding and not self:
            raise ConfigurationError(
                f"{file} holds no token, so nobody could come in",
                argument=file.name,
                hint="Make one with `mempalace-mcp token new NAME --scope write`, or remove the file to serve this "
                "machine without.",
            )

    def __bool__(self) -> bool:
        """Is there any token?"""
        return bool(self._own or self._tokens)

    @property
    def guarding(self) -> bool:
        """Must callers show a token? As soon as there was one, for as long as the process lives."""
        return self._guarding

    def access_of(self, presented: str) -> Principal | None:
        """What the bearer of a token may do; None if it is no token of ours. Takes as long whichever token it is."""
        digest = digest_of(presented)
        found = [token for token in (*self._own, *self._tokens) if hmac.compare_digest(token.digest, digest)]
        return found[0].access if found else None

    def look(self) -> None:
        """Follow the changes of the file."""
        stamp = self._stamp_of_file()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._guarding |= stamp is not None
        try:
            self._tokens = read_tokens(self.file)
            self.problem = None
        except ConfigurationError as error:
            self.problem = f"{error.message}; the tokens before that change count"
            logger.warning("%s. %s", self.problem, error.hint)
        except OSError as error:
            self.problem = f"{self.file} cannot be read: {error.strerror}; the tokens before that change count"
            logger.warning("%s", self.problem)

    def _stamp_of_file(self) -> _Stamp | None:
        try:
            status = self.file.lstat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Watch:
    """Looks at a keyring's file in a thread of its own, for the disk it lies on may hang; and only if it may have
    changed, for that takes as long as a small call."""

    def __init__(self, keyring: TokenStore) -> None:
        self._keyring = keyring
        self._glance: FileChange | None = None
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tokens", daemon=True)
        self._thread.start()

    async def look(self) -> None:
        """Return once the keyring holds what the file does.

        Raises:
            Busy: the disk does not answer.
        """
        if self._glance is not None and self._glance.shows_no_change():
            return
        loop = asyncio.get_running_loop()
        looked: asyncio.Future[FileChange] = loop.create_future()
        self._asked.put((loop, looked))
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._hold(await looked)
        except TimeoutError:
            raise Busy(
                "the disk with the file of tokens does not answer", hint="Try again.", retry_after=LOOK_SECONDS
            ) from None

    def close(self) -> None:
        """Look no more."""
        self._asked.put(None)
        self._hold(None)

    def _hold(self, glance: FileChange | None) -> None:
        if self._glance is not None and self._glance is not glance:
            self._glance.close()
        self._glance = glance

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            glance = FileChange(self._keyring.file)
            self._keyring.look()
            loop, looked = asked
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_settle, looked, glance)


_Asked = tuple[asyncio.AbstractEventLoop, "asyncio.Future[FileChange]"]


def _settle(looked: asyncio.Future[FileChange], glance: FileChange) -> None:
    if looked.done():
        glance.close()
    else:
        looked.set_result(glance)
