"""Opening the files of a palace: permissions, locks, and the connections to write or only to read.

New files are made private. Older files with looser permissions are made private here. A palace may lie in a folder
that holds more, such as a project: files that the palace has not made are left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mempalace_mcp.core import platform
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import Busy, DeadlineExceeded, PalaceCorrupt, StorageError, StorageFull, StorageReadOnly
from mempalace_mcp.core.files import permission_hint
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.group_commit import Backoff
from mempalace_mcp.storage.sqlite.connection import (
    Identity,
    SqliteConnection,
    SqliteReaders,
    is_passing,
    is_there,
    log_of,
    open_reader,
    open_writer,
    shared_memory_of,
    verify_identity,
)
from mempalace_mcp.storage.sqlite.migrations import Migration, migrate, schema_version, verify_schema

logger = logging.getLogger(__name__)

_OURS = re.compile(
    r"palace(-before-restore-[0-9-]+)?\.db(-wal|-shm)?|(write|daemon|index|embed|restore)\.lock|daemon\.json|daemon\.log(\.\d+)?"
    r"|tokens\.toml(\.imported)?"
)
_INDEX = "index"
_IN_INDEX = re.compile(r"chroma(-\d+|\.json|\.tmp)")
_LOOKED_AT = "tokens.toml"
"""Others may have changed it, so it is refused until a person has looked at it and made it private."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file or folder that others have access to, its mode, and the mode without that."""

    path: Path
    mode: int
    closed: int


def close_to_others(directory: Path) -> None:
    """Make the palace's files and index private, and its directory writable by this user only.

    Others may go on reading the directory. If it holds more than the palace, its mode is not changed. What cannot be
    changed is logged as a warning.
    """
    for each in exposed(directory):
        if each.path.name == _LOOKED_AT:
            continue
        if each.path == directory and _holds_more(directory):
            logger.warning(
                "other users may put files into %s (%o), and so replace the palace in it", directory, each.mode
            )
            continue
        try:
            each.path.chmod(each.closed)
            logger.warning("%s was open to other users (%o); it no longer is", each.path, each.mode)
        except FileNotFoundError:
            continue  # another process has just removed it
        except OSError as error:
            logger.warning("%s is open to other users, and cannot be closed: %s", each.path, error.strerror)


def exposed(directory: Path) -> Iterator[Exposed]:
    """The files and folders that `close_to_others` would change."""
    if not platform.HAS_FILE_MODES:
        return
    for path in own_paths(directory):
        forbidden = _OTHERS_WRITE if path == directory else _OTHERS
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(path.stat().st_mode)
            is_shared = path == directory and mode & stat.S_ISVTX
            if mode & forbidden and not is_shared:
                yield Exposed(path, mode, mode & ~forbidden)


def own_paths(directory: Path) -> Iterator[Path]:
    """The directory, and the palace's files and index in it."""
    yield directory
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        for entry in scan:
            if _is_ours(entry):
                yield Path(entry.path)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Is it one of the palace's files, or the folder of its index?"""
    if entry.is_file(follow_symlinks=False):
        return _OURS.fullmatch(entry.name) is not None
    if entry.name != _INDEX or not entry.is_dir(follow_symlinks=False):
        return False
    with contextlib.suppress(OSError), os.scandir(entry.path) as scan:
        return any(_IN_INDEX.fullmatch(inside.name) for inside in scan)
    return False


def _holds_more(directory: Path) -> bool:
    """Is anything there that is not the palace's?"""
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        return not all(map(_is_ours, scan))
    return False


FOREIGN = "another program that holds the database"
"""As error messages name it."""

OPENING_SECONDS = 2.0
"""How long opening and closing wait for the write lock where they can do without."""


@dataclass(slots=True)
class Opened:
    """The connections to one and the same file. Without a writer it can only be read, for the reason in `refusal`."""

    path: Path
    writer: SqliteConnection | None
    readers: SqliteReaders
    identity: Identity
    refusal: StorageError | None = None

    def writing(self) -> SqliteConnection:
        """The connection for writing.

        Raises:
            StorageReadOnly, StorageFull: there is none.
        """
        if self.writer is None:
            raise copy(self.refusal) if self.refusal else StorageReadOnly(f"{self.path} was opened only to be read")
        return self.writer

    def is_there(self) -> bool:
        """Are the files at the path still these?"""
        return Identity.of(self.path, self.identity.frozen) == self.identity

    def verify(self) -> None:
        """Return if the files at the path are still these.

        Raises:
            PalaceMissing: one of them was removed or replaced.
        """
        verify_identity(self.path, self.identity)

    def renew_writer(self) -> None:
        """Replace a connection whose state is unknown. The new one comes first: the last one takes the log along."""
        broken, self.writer = self.writing(), open_writer(self.path)
        broken.close()

    def rescue_log(self) -> None:
        """If the log alone was removed, move what it holds, which only open connections still see, into the file.

        Raises:
            Busy: a reader keeps part of it from being moved.
            PalaceCorrupt: the file was replaced but not its log, so that opening them would mix two palaces.
        """
        found = Identity.of(self.path)
        if found.database == self.identity.database:
            if found.log is None and self.writer is not None:
                self.readers.close()
                if not checkpoint(self.writer)[0]:
                    raise Busy("a reader keeps the write-ahead log from being saved", hint="Try again.")
        elif found.database and found.log and found.log == self.identity.log:
            log = log_of(self.path)
            raise PalaceCorrupt(
                f"{self.path} was replaced, but {log} belongs to the earlier file",
                hint=f"Stop every server of this palace, remove {log} and its -shm file, then start again.",
            )

    def close(self) -> None:
        """Move the log into the file as far as possible, and close every connection."""
        self.readers.close()
        if self.writer is None:
            return
        if self.is_there():
            with contextlib.suppress(sqlite3.Error):  # the log stays, and is read at the next opening
                checkpoint(self.writer)
        self.writer.close()


def open_to_write(path: Path, steps: Sequence[Migration], readers: int, now: Instant) -> Opened:
    """Open the file, bring its schema up to date and see to its state row. The write lock must be held, unless that
    is done already: the file `is_complete`.

    Raises:
        StorageReadOnly: this user may not write it.
        SchemaTooNew, PalaceCorrupt: the file is not a palace of this version.
        sqlite3.Error: SQLite cannot open it.
    """
    for file in (path, shared_memory_of(path)):  # SQLite would open them to be read, and only fail at the first write
        if is_there(file) and not os.access(file, os.W_OK):
            raise StorageReadOnly(f"{file} cannot be written", hint=permission_hint(file))
    writer = open_writer(path)
    try:
        migrate(writer, steps)
        if not _has_state(writer):
            writer.execute(
                "INSERT INTO state (id, palace_id, created_at, seq, recorded_at) VALUES (1, ?, ?, 0, ?)"
                " ON CONFLICT DO NOTHING",
                (secrets.token_hex(16), now, now),
            )
        pool = SqliteReaders(partial(open_reader, path), readers)
        return Opened(path, writer, pool, Identity.of(path))
    except BaseException:  # a failed opening must leak no connection
        writer.close()
        raise


def open_patiently(
    path: Path, steps: Sequence[Migration], readers: int, now: Callable[[], Instant], deadline: Deadline
) -> Opened:
    """`open_to_write`, again and again while another program holds the database.

    Raises:
        DeadlineExceeded: it holds it for too long.
        StorageReadOnly, SchemaTooNew, PalaceCorrupt, sqlite3.Error: as `open_to_write`.
    """
    backoff = Backoff()
    while True:
        try:
            return open_to_write(path, steps, readers, now())
        except sqlite3.Error as error:
            if not is_passing(error):
                raise
        deadline.check(FOREIGN)
        backoff.pause()


@contextlib.contextmanager
def leaving_nothing_behind(path: Path) -> Iterator[None]:
    """If opening fails, remove the files that it has made, unless something is in them.

    The write lock must be held, so that no other process has just made them.
    """
    log, shared = log_of(path), shared_memory_of(path)
    made = [file for file in (shared, log, path) if not is_there(file)]
    try:
        yield
    except BaseException:
        if path in made or (log in made and not (is_there(log) and log.stat().st_size)):
            for file in made:
                file.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked_to_open(lock: FileLock, deadline: Deadline, needs_none: Callable[[], bool]) -> Iterator[bool]:
    """Hold the write lock; yields whether it is held.

    It is not waited for where nothing is to be written: its holder may be stopped, which must not stop readers.

    Raises:
        DeadlineExceeded: it is held by others, and needed.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.hold(Deadline(OPENING_SECONDS)))
        except DeadlineExceeded:
            if not needs_none():
                stack.enter_context(lock.hold(deadline))
        yield lock.held


def is_complete(path: Path, steps: Sequence[Migration]) -> bool:
    """Is the file there, with schema and state row, so that `open_to_write` would write nothing?

    Raises:
        sqlite3.Error: SQLite cannot open it.
    """
    if not is_there(path):
        return False
    with contextlib.closing(open_reader(path)) as connection:
        return schema_version(connection) == len(steps) and _has_state(connection)


def open_to_read(path: Path, steps: Sequence[Migration], readers: int, refusal: StorageError) -> Opened:
    """Open a file that cannot be written.

    SQLite needs the files beside it, or leave to make them, to read a database in WAL mode. Where they are missing,
    as on a read-only disk after a clean end, nothing can be in them, and the file is read as one that never changes.

    Raises:
        StorageReadOnly, StorageFull: SQLite cannot read it without writing, or its schema would have to be brought up
            to date.
        SchemaTooNew: a newer version has written it.
        sqlite3.Error: SQLite cannot open it.
    """
    ways = (("mode=ro", False), ("mode=ro&immutable=1", True))
    for options, frozen in ways[isinstance(refusal, StorageFull) :]:  # the first way needs space
        identity = Identity.of(path, frozen)
        if frozen and identity.log is not None:
            break
        try:
            with contextlib.closing(open_reader(path, options)) as connection:
                verify_schema(connection, len(steps))
                version = schema_version(connection)
                if identity.log is None and not frozen:  # reading has made the log
                    identity = replace(identity, log=Identity.of(path).log)
        except sqlite3.OperationalError:
            continue
        if version < len(steps):
            break
        pool = SqliteReaders(partial(open_reader, path, options), readers)
        return Opened(path, None, pool, identity, refusal)
    raise refusal


def _has_state(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM state").fetchone() is not None


def checkpoint(writer: sqlite3.Connection) -> tuple[bool, int, int]:
    """Move the write-ahead log into the file and cut it: was all of it moved, its pages, the pages moved."""
    busy, log_pages, moved_pages = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy, log_pages, moved_pages
