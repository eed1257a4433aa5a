"""The truth: one SQLite file, used by any number of threads and processes at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import PalaceError, PalaceMissing, StorageError
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.backup import BackupReport, Progress, back_up
from mempalace_mcp.storage.commit import Backoff, TransactionLost, commit_units
from mempalace_mcp.storage.connection import Identity, open_reader, open_writer, verify_identity
from mempalace_mcp.storage.failures import explain, is_passing
from mempalace_mcp.storage.migrations import load_migrations, migrate, verify_schema
from mempalace_mcp.storage.readers import ReaderPool
from mempalace_mcp.storage.transaction import Unit, Work

T = TypeVar("T")

DATABASE_FILE = "palace.db"
LOCK_FILE = "write.lock"


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """Sizes in bytes, times in seconds, counts since the database was opened.

    `retries` counts attempts repeated because a foreign connection was in the way, `groups` commits of more than one
    unit, `last_error` is the code of the last refusal by storage.
    """

    database_bytes: int | None
    log_bytes: int | None
    commits: int = 0
    units: int = 0
    groups: int = 0
    largest_group: int = 0
    retries: int = 0
    lock_waits: int = 0
    lock_wait_total: float = 0.0
    lock_wait_max: float = 0.0
    readers_in_use: int = 0
    readers_limit: int = 0
    reopened: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """`complete` is false when a reader kept part of the write-ahead log from being moved."""

    complete: bool
    log_pages: int
    moved_pages: int


@dataclass(slots=True)
class _Opened:
    """The connections to one and the same file."""

    writer: sqlite3.Connection
    readers: ReaderPool
    identity: Identity


class Database:
    """The palace's file, open. Thread-safe; each process opens its own.

    Raises:
        StorageReadOnly, StorageFull, StorageError: the directory or the file cannot be used.
        PalaceCorrupt: the file is not a palace.
        SchemaTooNew: a newer version has written it.
        DeadlineExceeded: the write lock was held by others for a minute.
    """

    def __init__(self, directory: Path, *, now: Callable[[], Instant] = clock.now, readers: int = 8) -> None:
        self.directory = directory
        self.path = directory / DATABASE_FILE
        self._now = now
        self._reader_limit = readers
        self._process = os.getpid()
        self._migrations = load_migrations()
        self._closed = False
        self._statistics = DatabaseStatistics(None, None, readers_limit=readers)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(directory / LOCK_FILE)
        deadline = Deadline(COMMAND_SECONDS)
        try:
            with self._lock.hold(deadline), self._explained():
                if not self.path.exists():
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                self._opened: _Opened | None = self._patiently(self._open, deadline)
        except BaseException:
            self._lock.close()
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one consistent snapshot for the length of a block, and cannot write.

        Raises:
            Busy: all connections were in use for the whole waiting time.
            PalaceMissing: the file was removed or replaced.
            SchemaTooNew, PalaceCorrupt, StorageError: it cannot be read.
        """
        opened = self._current()
        with self._explained(), opened.readers.lend() as connection:
            verify_identity(self.path, opened.identity)
            connection.execute("BEGIN")
            verify_schema(connection, len(self._migrations))
            yield connection

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit in a transaction of its own and return its result once it is durable.

        Raises:
            PalaceError: refused by the unit itself, or by storage; then nothing of it was written.
        """
        unit = Unit(work, deadline)
        self.write_group([unit])
        return unit.outcome.result()

    def write_group(self, units: Sequence[Unit[Any]]) -> None:
        """Commit the units together, and settle every one of them. One that fails does not harm the others."""
        try:
            with self._write_lock(max((unit.deadline for unit in units), key=lambda deadline: deadline.remaining)):
                begun = [unit for unit in units if unit.begin(self.awaited())]
                if begun:
                    self._commit(begun)
        except PalaceError as error:
            self._refuse(units, error)

    def awaited(self) -> str:
        """What a write waits for, as an error message names it."""
        return self._lock.describe()

    def checkpoint(self) -> CheckpointResult:
        """Move the write-ahead log into the file and cut it to nothing, as far as readers allow.

        Raises:
            PalaceError: as `write`.
        """
        with self._write_lock(Deadline(COMMAND_SECONDS)), self._explained():
            opened = self._current()
            verify_identity(self.path, opened.identity)
            busy, log_pages, moved_pages = opened.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return CheckpointResult(not busy, log_pages, moved_pages)

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file; empty if nothing.

        Raises:
            PalaceError: as `read`.
        """
        with self.read() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(100)") if row[0] != "ok"]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        return problems + [f"row {row[1]} of {row[0]} refers to nothing in {row[2]}" for row in orphans]

    def backup(self, destination: Path, progress: Progress | None = None) -> BackupReport:
        """Copy the palace, as it is now, to a new file. See `back_up`.

        Raises:
            PalaceError: as `read` and `back_up`.
        """
        with self.read() as connection:
            return back_up(connection, destination, progress)

    def reopen(self) -> None:
        """Use the file that is at the path now.

        Raises:
            PalaceMissing: there is none.
            PalaceError: as opening.
        """
        deadline = Deadline(COMMAND_SECONDS)
        with self._write_lock(deadline), self._explained():
            self._shut()
            if not self.path.exists():
                raise PalaceMissing(f"{self.path} is not there", hint="Put the file back, then reconnect.")
            self._opened = self._patiently(self._open, deadline)
            self._count(reopened=self._statistics.reopened + 1)

    def statistics(self) -> DatabaseStatistics:
        """Sizes, waits and counts."""
        opened = self._opened
        return replace(
            self._statistics,
            database_bytes=_size(self.path),
            log_bytes=_size(Path(f"{self.path}-wal")),
            readers_in_use=opened.readers.lent if opened else 0,
        )

    def close(self) -> None:
        """Checkpoint and close. Idempotent."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(PalaceError):
                stack.enter_context(self._lock.hold(Deadline(COMMAND_SECONDS)))
            self._shut()
        self._lock.close()

    def _open(self) -> _Opened:
        writer = open_writer(self.path)
        try:
            migrate(writer, self._migrations)
            self._ensure_state(writer)
            return _Opened(
                writer, ReaderPool(lambda: open_reader(self.path), self._reader_limit), Identity.of(self.path)
            )
        except BaseException:
            writer.close()
            raise

    def _ensure_state(self, writer: sqlite3.Connection) -> None:
        now = self._now()
        writer.execute(
            "INSERT INTO state (id, palace_id, created_at, seq, recorded_at) VALUES (1, ?, ?, 0, ?)"
            " ON CONFLICT DO NOTHING",
            (secrets.token_hex(16), now, now),
        )

    def _shut(self) -> None:
        if self._opened is not None:
            self._opened.readers.close()
            self._opened.writer.close()
            self._opened = None

    def _commit(self, units: Sequence[Unit[Any]]) -> None:
        """Commit the units together; if the transaction breaks, each alone."""
        try:
            outcomes = self._attempt(units)
        except TransactionLost as error:
            failure: PalaceError = self._explanation(error.__cause__)
        except sqlite3.Error as error:
            failure = self._explanation(error)
        else:
            for outcome in outcomes:
                outcome.settle()
            return
        self._renew_writer()
        if len(units) == 1:
            self._refuse(units, failure)
            return
        for unit in units:
            self._commit([unit])

    def _attempt(self, units: Sequence[Unit[Any]]) -> Any:
        opened = self._current()
        backoff = Backoff(units[0].deadline, "another program that holds the database")
        while True:
            verify_identity(self.path, opened.identity)
            try:
                outcomes = commit_units(
                    opened.writer, units, self._now, lambda writer: verify_schema(writer, len(self._migrations))
                )
            except sqlite3.Error as error:
                if not is_passing(error):
                    raise
                self._count(retries=self._statistics.retries + 1)
                backoff.pause()
                continue
            verify_identity(self.path, opened.identity)
            return outcomes

    def _renew_writer(self) -> None:
        opened = self._current()
        broken, opened.writer = opened.writer, open_writer(self.path)
        broken.close()

    def _patiently(self, action: Callable[[], T], deadline: Deadline) -> T:
        backoff = Backoff(deadline, "another program that holds the database")
        while True:
            try:
                return action()
            except sqlite3.Error as error:
                if not is_passing(error):
                    raise
                backoff.pause()

    @contextlib.contextmanager
    def _write_lock(self, deadline: Deadline) -> Iterator[None]:
        self._current()
        started = time.monotonic()
        with self._lock.hold(deadline):
            waited = time.monotonic() - started
            self._count(
                lock_waits=self._statistics.lock_waits + 1,
                lock_wait_total=self._statistics.lock_wait_total + waited,
                lock_wait_max=max(self._statistics.lock_wait_max, waited),
            )
            yield

    def _current(self) -> _Opened:
        if self._closed or self._process != os.getpid():
            raise StorageError("closed")
        opened = self._opened
        if opened is None:
            raise PalaceMissing(f"{self.path} is not open", hint="Reconnect.")
        return opened

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explanation(error) from error

    def _explanation(self, error: BaseException | None) -> PalaceError:
        if isinstance(error, sqlite3.Error):
            return explain(error, self.path)
        return error if isinstance(error, PalaceError) else StorageError("the transaction was lost")

    def _refuse(self, units: Sequence[Unit[Any]], error: PalaceError) -> None:
        self._count(last_error=error.code)
        for unit in units:
            unit.refuse(error)

    def _count(self, **changes: Any) -> None:
        self._statistics = replace(self._statistics, **changes)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
