"""How every connection to the palace is opened, and how we know that its files are still the ones on disk."""

from __future__ import annotations

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from mempalace_mcp.core.errors import ConfigurationError, PalaceMissing

WAL_PAGES_PER_CHECKPOINT = 1000
WAL_BYTES_KEPT = 64 * 1024 * 1024
_READ_BUSY_MILLISECONDS = 5_000
"""Readers meet a lock only while another process recovers or removes the write-ahead log."""
_STATEMENTS_CACHED = 256

OLDEST_SQLITE = (3, 38, 0)
"""The first one with `->>`; strict tables came with 3.37."""

FileIdentity = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Device and inode of the database and of its write-ahead log; None for a file that is not there.

    `frozen` adds size and time of change, for a database that is read as if nobody could ever write it.
    """

    database: FileIdentity | None
    log: FileIdentity | None
    frozen: bool = False

    @staticmethod
    def of(path: Path, frozen: bool = False) -> Identity:
        """What lies at the path of the database, and beside it, now."""
        return Identity(_identity(os.fspath(path), frozen), _identity(f"{path}-wal", frozen), frozen)


def verify_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Return if the SQLite that Python brings can do what the palace needs.

    Raises:
        ConfigurationError: it is too old.
    """
    if version < OLDEST_SQLITE:
        shown, needed = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        raise ConfigurationError(
            f"this Python ({sys.executable}) comes with SQLite {shown}, and a palace needs {needed} or newer",
            hint="Install mempalace-mcp for a newer Python, or for one that brings a newer SQLite.",
        )


def verify_identity(path: Path, expected: Identity) -> None:
    """Return if the files at the path are the ones that were opened.

    SQLite itself acknowledges writes into files that have been removed.

    Raises:
        PalaceMissing: one of them was removed or replaced.
    """
    found = Identity.of(path, expected.frozen)
    if found == expected:
        return
    if found.database != expected.database:
        file, there = path, found.database
    else:
        file, there = log_of(path), found.log
    raise PalaceMissing(
        f"{file} was {'replaced' if there else 'removed'} while the palace was open; nothing is acknowledged",
        hint="Put the palace's files in order, then reconnect.",
    )


def is_there(path: Path) -> bool:
    """Is there a file that can be seen? Unlike `Path.exists`, no error where the directory is closed to us."""
    return _identity(os.fspath(path), frozen=False) is not None


def log_of(path: Path) -> Path:
    """The write-ahead log of the database."""
    return Path(f"{path}-wal")


def shared_memory_of(path: Path) -> Path:
    """The index of the write-ahead log, which all who use the database write, also to read."""
    return Path(f"{path}-shm")


class Connection(sqlite3.Connection):
    """A connection that can end every statement begun on it.

    A cursor that was not read to its end keeps its snapshot beyond `COMMIT` and `ROLLBACK`, and whatever holds it, such
    as the traceback of an error, would leave the next user of the connection in the past.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """A new cursor."""
        cursor = super().cursor(factory)
        self._cursors.add(cursor)
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement on a new cursor, which is returned."""
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Run a statement with each of the parameters on a new cursor, which is returned."""
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.executemany(sql, parameters)

    def close_cursors(self) -> None:
        """End what was begun; the cursors cannot be used any more."""
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()

    def roll_back(self) -> None:
        """End statements and transaction, if there are any."""
        self.close_cursors()
        if self.in_transaction:
            self.execute("ROLLBACK")


def open_writer(path: Path) -> Connection:
    """A connection for writing, in WAL mode, that never waits by itself: the database retries under its deadline.

    Must be called with the write lock held.
    """
    return _connect(
        path,
        "mode=rw",
        busy_timeout=0,
        journal_mode="WAL",
        synchronous="FULL",
        foreign_keys="ON",
        wal_autocheckpoint=WAL_PAGES_PER_CHECKPOINT,
        journal_size_limit=WAL_BYTES_KEPT,
        temp_store="MEMORY",  # or else SQLite keeps what a savepoint may roll back in a file of its own
        secure_delete="ON",  # what is purged must not stay in free pages
    )


def open_reader(path: Path, options: str = "mode=rw") -> Connection:
    """A connection that cannot write. It is opened for both where possible, because reading WAL needs shared memory."""
    return _connect(path, options, busy_timeout=_READ_BUSY_MILLISECONDS, query_only="ON")


def _connect(path: Path, options: str, **pragmas: int | str) -> Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
        factory=Connection,
    )
    try:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _identity(file: str, frozen: bool) -> FileIdentity | None:
    try:
        status = os.stat(file)  # noqa: PTH116 (on the path of every read: twice as fast as Path)
    except OSError:
        return None
    if frozen:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return status.st_dev, status.st_ino
