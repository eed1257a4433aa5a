"""Connections to SQLite: opening, the dialect, error codes, group commit, and a pool of readers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import ref

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import (
    Busy,
    ConfigurationError,
    PalaceCorrupt,
    PalaceError,
    PalaceMissing,
    StorageError,
    StorageFull,
    StorageReadOnly,
)
from mempalace_mcp.core.files import foreign_owner, permission_hint
from mempalace_mcp.storage.connection import Dialect
from mempalace_mcp.storage.group_commit import Outcome, run_units
from mempalace_mcp.storage.reader_pool import PoolClosed, ReaderPool
from mempalace_mcp.storage.transactions import Unit

WAL_PAGES_PER_CHECKPOINT = 1000
WAL_BYTES_KEPT = 64 * 1024 * 1024
_READ_BUSY_MILLISECONDS = 5_000
"""Readers meet a lock only while another process recovers or removes the write-ahead log."""
_STATEMENTS_CACHED = 256

SQLITE_VERSION = sqlite3.sqlite_version
"""Of the library that Python brings."""

OLDEST_SQLITE = (3, 38, 0)
"""The first one with `->>`; strict tables came with 3.37."""

FileIdentity = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Device and inode of the database and of its write-ahead log; None for a file that is not there.

    `frozen` adds size and time of change, for a database that is read as immutable.
    """

    database: FileIdentity | None
    log: FileIdentity | None
    frozen: bool = False

    @staticmethod
    def of(path: Path, frozen: bool = False) -> Identity:
        """The files that are at the path of the database, and beside it, now."""
        return Identity(_identity(os.fspath(path), frozen), _identity(f"{path}-wal", frozen), frozen)


def verify_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Verify that the SQLite of this Python is new enough.

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
    """Verify that the files at the path are the ones that were opened.

    SQLite acknowledges writes into files that have been removed.

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
    """The index of the write-ahead log; even readers write to it."""
    return Path(f"{path}-shm")


class SqliteDialect(Dialect):
    """SQL as the oldest supported SQLite reads it: `IS NOT DISTINCT FROM` came only with 3.39."""

    ordered_join = "CROSS JOIN"

    def array(self, values: Sequence[Any], /) -> str:
        """The values as JSON."""
        return json.dumps(list(values))

    def listed(self, parameter: str, alias: str, kind: type[int] | type[str] = int, /) -> str:
        """A call of `json_each`, which has these columns."""
        return f"json_each({parameter}) AS {alias}"

    def position(self, text: str, part: str, /) -> str:
        """A call of `instr`."""
        return f"instr({text}, {part})"

    def same(self, column: str, parameter: str, /) -> str:
        """A comparison with IS."""
        return f"{column} IS {parameter}"

    def by_index(self, name: str, /) -> str:
        """INDEXED BY: there are no statistics to choose an index by."""
        return f"INDEXED BY {name}"


_MANY_CURSORS = 1000
"""So many are noted between two looks at which are still there."""


class SqliteConnection(sqlite3.Connection):
    """A connection that can end every statement begun on it.

    A cursor that was not read to its end keeps its snapshot beyond `COMMIT` and `ROLLBACK`. A reference to it, such as
    in a traceback, would leave the next user of the connection in the past.
    """

    dialect = SqliteDialect()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A `WeakSet` would double the time of a short statement.
        self._cursors: list[ref[sqlite3.Cursor]] = []
        self._many = _MANY_CURSORS

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """A new cursor."""
        cursor = super().cursor(factory)
        self._cursors.append(ref(cursor))
        if len(self._cursors) > self._many:
            self._cursors = [alive for alive in self._cursors if alive() is not None]
            self._many = 2 * len(self._cursors) + _MANY_CURSORS
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement on a new cursor, which is returned."""
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Run a statement with each of the parameters on a new cursor, which is returned."""
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.executemany(sql, parameters)

    @property
    def changed(self) -> int:
        """A counter that grows with every row that is inserted, changed or removed."""
        return self.total_changes

    def close_cursors(self) -> None:
        """Close all cursors, and so end their statements."""
        for alive in self._cursors:
            cursor = alive()
            if cursor is not None:
                cursor.close()
        self._cursors.clear()

    def roll_back(self) -> None:
        """End statements and transaction, if there are any."""
        self.close_cursors()
        if self.in_transaction:
            self.execute("ROLLBACK")

    def reset(self) -> bool:
        """As `roll_back`; False if that fails."""
        try:
            self.roll_back()
        except sqlite3.Error:
            return False
        return True


def open_writer(path: Path) -> SqliteConnection:
    """A connection for writing, in WAL mode. It never waits by itself: the database retries until the deadline.

    The write lock must be held.
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


def data_version(connection: sqlite3.Connection) -> int:
    """A number that changes with every commit of another connection, in any process. It says something only in
    comparison with an earlier one of the same connection."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def open_reader(path: Path, options: str = "mode=rw") -> SqliteConnection:
    """A connection that cannot write. It is opened for both where possible, because reading WAL needs shared memory."""
    return _connect(path, options, busy_timeout=_READ_BUSY_MILLISECONDS, query_only="ON")


def _connect(path: Path, options: str, **pragmas: int | str) -> SqliteConnection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
        factory=SqliteConnection,
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


_PRIMARY = 0xFF
"""Extended result codes carry the primary one in their lowest byte."""
_NEARLY_FULL_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; SQLITE_MISUSE for errors that stem from the Python module itself."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & _PRIMARY


def is_passing(error: BaseException) -> bool:
    """Is another connection in the way, so that the same transaction may succeed later?"""
    return isinstance(error, sqlite3.Error) and code_of(error) in _PASSING


def explain(error: sqlite3.Error, path: Path) -> PalaceError:
    """The palace's error for one of SQLite's about the database at `path`."""
    code = code_of(error)
    if not is_there(path):
        return PalaceMissing(f"{path} is not there any more", hint="Put the file back, then reconnect.")
    if code in _PASSING:
        return Busy(f"another program holds {path} ({error})", hint="Try again.")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path.parent)):
        return StorageFull(
            f"no space left for {path}; nothing of this call was written", hint="Free some space, then try again."
        )
    if code in _FORBIDDEN:
        files = [path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))]
        file = next(filter(foreign_owner, files), path)
        return StorageReadOnly(f"{file} cannot be written ({error})", hint=permission_hint(file))
    if code in _UNREADABLE:
        return PalaceCorrupt(
            f"SQLite cannot read {path} ({error})", hint="Stop every server of this palace and restore a backup."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(f"reading or writing {path} failed ({error})", hint="Check the disk and the system log.")
    return PalaceError(
        f"SQLite refused a statement ({error})", hint="This is a fault of the program; please report it."
    )


def _is_full(directory: Path) -> bool:
    """Is there no space for this user? A quota shows only when something is written."""
    if hasattr(os, "statvfs"):
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < _NEARLY_FULL_BYTES:
            return True
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:
            probe.write(bytes(_NEARLY_FULL_BYTES))
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in _FULL
    return False


def commit_units(
    connection: SqliteConnection,
    units: Sequence[Unit[Any]],
    now: Callable[[], Instant],
    verify: Callable[[SqliteConnection], None],
) -> list[Outcome]:
    """Run the units in one transaction and commit it. A unit that raises leaves nothing of itself behind.

    `verify` looks at the palace inside the transaction, before the first unit.

    Raises:
        TransactionLost: SQLite rolled everything back; nothing of any unit is stored.
        sqlite3.Error: `BEGIN` or `COMMIT` failed, or another connection was in the way; nothing is stored.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        verify(connection)
        outcomes = run_units(connection, units, now, is_passing)
        connection.execute("COMMIT" if any(outcome.error is None for outcome in outcomes) else "ROLLBACK")
    except BaseException:  # nothing may stay begun
        connection.roll_back()
        raise
    return outcomes


class SqliteReaders(ReaderPool[SqliteConnection]):
    """The connections for reading, and one beside them for reads that must not wait."""

    def __init__(self, open_connection: Callable[[], SqliteConnection], limit: int) -> None:
        super().__init__(open_connection, limit)
        self._reserved: SqliteConnection | None = None
        self._reserving = threading.Lock()

    @contextlib.contextmanager
    def reserved(self) -> Iterator[SqliteConnection]:
        """A connection beside those that are lent, for one short read at a time. It waits for no lock of SQLite.

        Raises:
            PoolClosed: the pool is closed.
            sqlite3.Error: it cannot be opened.
        """
        with self._reserving:
            if self.closed:
                raise PoolClosed
            if self._reserved is None:
                self._reserved = self._open_connection()
                self._reserved.execute("PRAGMA busy_timeout = 0")
            try:
                yield self._reserved
            finally:
                self._reserved.close_cursors()

    def close(self) -> None:
        """As the pool's, and close the other one."""
        super().close()
        with self._reserving:
            reserved, self._reserved = self._reserved, None
        if reserved is not None:
            reserved.close()
