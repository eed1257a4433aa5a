"""The palace's database in one SQLite file, used by any number of threads and processes at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mempalace_mcp.core import clock
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import (
    Busy,
    PalaceCorrupt,
    PalaceError,
    PalaceMissing,
    StorageError,
    StorageFull,
    StorageReadOnly,
)
from mempalace_mcp.core.files import create_directory, create_file
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import DatabaseStatistics, DataVersion, FileStatistics, PalaceDatabase
from mempalace_mcp.storage.group_commit import Backoff, GroupDatabase, Outcome
from mempalace_mcp.storage.reader_pool import PoolClosed
from mempalace_mcp.storage.sqlite import DATABASE_FILE
from mempalace_mcp.storage.sqlite.backup import BackupReport, Progress, back_up
from mempalace_mcp.storage.sqlite.connection import (
    SqliteConnection,
    commit_units,
    data_version,
    explain,
    is_passing,
    is_there,
    log_of,
    verify_sqlite,
)
from mempalace_mcp.storage.sqlite.migrations import load_migrations, verify_schema
from mempalace_mcp.storage.sqlite.opening import (
    FOREIGN,
    OPENING_SECONDS,
    Opened,
    checkpoint,
    close_to_others,
    is_complete,
    leaving_nothing_behind,
    locked_to_open,
    open_patiently,
    open_to_read,
)
from mempalace_mcp.storage.transactions import Unit


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """The result of a checkpoint; `complete` is false if a reader kept part of the write-ahead log from being moved."""

    complete: bool
    log_pages: int
    moved_pages: int


@dataclass(slots=True)
class Counters:
    """Counts behind the statistics; changed with the write lock held, `damaged` and `last_error` excepted."""

    commits: int = 0
    groups: int = 0
    largest_group: int = 0
    retries: int = 0
    locks: int = 0
    lock_wait_total: float = 0.0
    lock_wait_max: float = 0.0
    reopened: int = 0
    damaged: bool = False
    last_error: str | None = None

    def locked(self, waited: float) -> None:
        """Count that the lock was taken after so many seconds."""
        self.locks += 1
        self.lock_wait_total += waited
        self.lock_wait_max = max(self.lock_wait_max, waited)

    def committed(self, units: int) -> None:
        """Count a commit of so many units."""
        self.last_error = None
        self.commits += units > 0
        self.groups += units > 1
        self.largest_group = max(self.largest_group, units)


T = TypeVar("T")

LOCK_FILE = "write.lock"


class Database(GroupDatabase, PalaceDatabase):
    """The palace's file, open. Thread-safe; each process opens its own.

    A directory that does not allow writing, or has no room for it, is opened to be read, where SQLite can do that, and
    writing is tried again with each write.

    Raises:
        StorageReadOnly, StorageFull, StorageError: the directory or the file cannot be used.
        PalaceCorrupt: the file is not a palace.
        SchemaTooNew: a newer version has written it.
        DeadlineExceeded: others held the write lock for a minute, and opening had something to write.
    """

    failures = (sqlite3.Error,)

    def __init__(self, directory: Path, *, now: Callable[[], Instant] = clock.now, readers: int = 8) -> None:
        verify_sqlite()
        self.directory = directory
        self.path = directory / DATABASE_FILE
        self._now = now
        self._readers = readers
        self._process = os.getpid()
        self._steps = load_migrations()
        self._counters = Counters()
        self._opened: Opened | None = None
        create_directory(directory)
        close_to_others(directory)
        self._lock = FileLock(directory / LOCK_FILE)
        try:
            self._open(create=True)
        except BaseException:  # a failed opening must leak no descriptor
            self._lock.close()
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[SqliteConnection]:
        """A connection that sees one consistent snapshot for the length of a block, and cannot write.

        Raises:
            Busy: all connections were in use for the whole waiting time.
            PalaceMissing: the file was removed or replaced.
            SchemaTooNew, PalaceCorrupt, StorageError: it cannot be read.
        """
        with self._explained(), contextlib.ExitStack() as stack:
            opened, connection = self._lend(stack)
            opened.verify()
            connection.execute("BEGIN")
            verify_schema(connection, len(self._steps))
            yield connection
            if opened.identity.frozen:
                opened.verify()

    def read_if_changed(
        self, seen: DataVersion | None, read: Callable[[Connection], T]
    ) -> tuple[DataVersion, T] | None:
        """What `read` finds, and the version of that; None if nobody has committed since the version `seen`.

        Takes microseconds and may run on an event loop: it waits neither for other readers nor for a lock. Whether the
        files are still there is not checked.

        Raises:
            Busy: another program holds the database.
            SchemaTooNew, PalaceCorrupt, StorageError: it cannot be read.
        """
        with self._explained():
            try:
                with self._current().readers.reserved() as connection:
                    version = connection, data_version(connection)
                    if version == seen:
                        return None
                    verify_schema(connection, len(self._steps))
                    return version, read(connection)
            except PoolClosed:
                raise Busy(f"{self.path} is being opened anew", hint="Try again.") from None

    def awaited(self) -> str:
        """What a write waits for, as error messages name it."""
        return self._lock.describe()

    def checkpoint(self) -> CheckpointResult:
        """Move the write-ahead log into the file and cut it to nothing, as far as readers allow.

        Raises:
            PalaceError: as `write`.
        """
        with self._explained(), self._locked(Deadline(COMMAND_SECONDS)):
            opened = self._current()
            opened.verify()
            return CheckpointResult(*checkpoint(opened.writing()))

    def integrity(self) -> list[str]:
        """The problems that SQLite finds in the file.

        Raises:
            PalaceError: as `read`.
        """
        with self.read() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(100)") if row[0] != "ok"]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        return problems + [f"row {row} of {table} refers to nothing in {other}" for table, row, other, _ in orphans]

    def backup(self, destination: Path, progress: Progress | None = None) -> BackupReport:
        """Copy the palace, as it is now, to a new file.

        Raises:
            PalaceError: as `read` and `back_up`.
        """
        with self.read() as connection:
            return back_up(connection, destination, progress)

    def reopen(self) -> None:
        """Use the files that are at the path now. On failure the database stays as it was.

        Raises:
            PalaceMissing: there are none.
            PalaceError: as opening.
        """
        self._current()
        self._open(create=False)
        self._counters.reopened += 1
        self._counters.last_error = None
        self._counters.damaged = False

    @property
    def server(self) -> None:
        """None: nothing stands between this process and the files."""
        return None

    def files(self) -> FileStatistics:
        """A look at the files, which takes as long as the file system does."""
        opened = self._opened
        available = opened is not None and opened.is_there()
        return FileStatistics(available, database_bytes=_size(self.path), log_bytes=_size(log_of(self.path)))

    def free_bytes(self) -> int | None:
        """Bytes available to this user; None if the directory is gone."""
        try:
            return shutil.disk_usage(self.directory).free
        except OSError:
            return None

    def statistics(self, files: FileStatistics | None = None) -> DatabaseStatistics:
        """Sizes, waits and counts; never waits for a lock, nor for the disk if the look at the files is given."""
        counters, opened, files = self._counters, self._opened, files or self.files()
        return DatabaseStatistics(
            available=files.available,
            writable=opened is not None and opened.writer is not None,
            damaged=counters.damaged,
            database_bytes=files.database_bytes,
            log_bytes=files.log_bytes,
            commits=counters.commits,
            groups=counters.groups,
            largest_group=counters.largest_group,
            retries=counters.retries,
            locks=counters.locks,
            lock_wait_total=counters.lock_wait_total,
            lock_wait_max=counters.lock_wait_max,
            readers_in_use=opened.readers.lent if opened else 0,
            readers_limit=self._readers,
            reopened=counters.reopened,
            last_error=counters.last_error,
        )

    def close(self) -> None:
        """Checkpoint and close. Idempotent; does nothing in a forked child, whose parent may still write."""
        opened = self._opened
        if opened is None or self._process != os.getpid():
            return
        self._opened = None
        opened.readers.close()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(PalaceError):  # a directory that is gone or read-only has no lock to hold
                stack.enter_context(self._lock.hold(Deadline(OPENING_SECONDS)))
            opened.close()
        self._lock.close()

    def _open(self, *, create: bool) -> None:
        """Open the files at the path, with the write lock held if possible, and close those that were open before."""
        deadline = Deadline(COMMAND_SECONDS)
        try:
            with self._explained(), locked_to_open(self._lock, deadline, self._needs_no_lock) as is_held:
                if self._opened is not None:
                    self._opened.rescue_log()
                cleaning = leaving_nothing_behind(self.path) if is_held else contextlib.nullcontext()
                with cleaning, self._explained():
                    if create and not is_there(self.path):
                        create_file(self.path)
                    self._use(open_patiently(self.path, self._steps, self._readers, self._now, deadline))
        except (StorageReadOnly, StorageFull) as refusal:
            if not is_there(self.path):
                raise
            with self._explained():
                self._use(open_to_read(self.path, self._steps, self._readers, refusal))
            self._counters.last_error = refusal.code

    def _needs_no_lock(self) -> bool:
        return self._opened is None and is_complete(self.path, self._steps)

    def _use(self, opened: Opened) -> None:
        earlier, self._opened = self._opened, opened
        if earlier is not None:
            earlier.close()

    def _lend(self, stack: contextlib.ExitStack) -> tuple[Opened, SqliteConnection]:
        while True:
            opened = self._current()
            if isinstance(opened.refusal, StorageFull) and not opened.is_there():  # another process has found space
                self._open(create=False)
                opened = self._current()
            try:
                return opened, stack.enter_context(opened.readers.lend())
            except PoolClosed:
                if self._opened is opened:  # otherwise it was closed, or reopened, in between
                    raise PalaceMissing(f"{self.path} could not be reopened", hint="Reconnect.") from None

    @contextlib.contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        if self._current().refusal is not None:
            self._open(create=False)  # there may be space or permission by now
        self._current().writing()
        started = time.monotonic()
        with self._lock.hold(deadline):
            self._counters.locked(time.monotonic() - started)
            yield

    def _attempt(self, units: Sequence[Unit[Any]]) -> list[Outcome]:
        """Commit the units, however often a foreign connection is in the way, as long as their deadlines allow."""
        opened, backoff = self._current(), Backoff()
        while units := [unit for unit in units if unit.in_time(FOREIGN)]:
            opened.verify()
            try:
                outcomes = commit_units(opened.writing(), units, self._now, self._verify_schema)
            except sqlite3.Error as error:
                if not is_passing(error):
                    raise
                self._counters.retries += 1
                backoff.pause()
            else:
                opened.verify()
                self._counters.committed(sum(outcome.error is None for outcome in outcomes))
                return outcomes
        return []

    def _verify_schema(self, connection: SqliteConnection) -> None:
        verify_schema(connection, len(self._steps))

    def _current(self) -> Opened:
        if self._process != os.getpid():
            raise StorageError(
                f"{self.path} was opened by process {self._process} before a fork",
                hint="Open the palace anew in each process.",
            )
        opened = self._opened
        if opened is None:
            raise StorageError(f"{self.path} is closed", hint="Connect again.")
        return opened

    def _after_break(self) -> None:
        self._current().renew_writer()

    def _explain(self, failure: Exception) -> PalaceError:
        assert isinstance(failure, sqlite3.Error)
        explained = explain(failure, self.path)
        self._counters.damaged |= isinstance(explained, PalaceCorrupt)
        return explained

    def _note_refusal(self, error: PalaceError) -> None:
        self._counters.last_error = error.code


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
