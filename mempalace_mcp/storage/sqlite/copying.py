"""A palace in a directory as the source of a copy, and as its target."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core import clock
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import Busy, NotFound, PalaceMissing, StorageFull, StorageReadOnly
from mempalace_mcp.core.files import create_directory, create_file
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.storage.copying import (
    Origin,
    PalaceCopy,
    Row,
    broken_rule,
    count_rows,
    last_key,
    select,
    verify_unused,
    verify_unwritten,
)
from mempalace_mcp.storage.schema_mark import marked
from mempalace_mcp.storage.sqlite import DATABASE_FILE
from mempalace_mcp.storage.sqlite.connection import (
    Identity,
    SqliteConnection,
    explain,
    is_there,
    log_of,
    open_reader,
    open_writer,
    verify_identity,
    verify_sqlite,
)
from mempalace_mcp.storage.sqlite.database import LOCK_FILE
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.sqlite.migrations import Migration, load_migrations, migrate, schema_version, verify_schema
from mempalace_mcp.storage.sqlite.opening import checkpoint
from mempalace_mcp.storage.tables import TABLES, Table
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.manifest import discard_files

_BUSY_MILLISECONDS = 5_000
_NOT_OF_THE_COPY = ("passage_tokens",)


@dataclass(frozen=True, slots=True)
class SqliteSnapshot:
    """The palace in a file, within a transaction. `lock` keeps others from writing; None where nobody may write."""

    path: Path
    connection: SqliteConnection
    origin: Origin
    identity: Identity
    lock: FileLock | None

    def rows(self, table: Table, after: Row | None = None) -> Iterator[Row]:
        """The rows by key, those beyond the key `after` alone if it is given."""
        with explained(self.path):
            yield from self.connection.execute(select(table, after), after or ())

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        return count_rows(self.connection, table)

    def last_number(self, table: Table) -> int:
        """The largest number ever given. SQLite notes it for tables that must use none again."""
        noted = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
        last = last_key(self.connection, table)
        return max(noted[0] if noted else 0, last[0] if last else 0)

    def verify_held(self) -> None:
        """Return if the files are still those that were opened, and the lock is still held.

        Raises:
            PalaceMissing: they are not.
        """
        verify_identity(self.path, self.identity)
        if self.lock is not None:
            _verify_lock(self.lock)


def _verify_lock(lock: FileLock) -> None:
    if not (lock.held and lock.is_current()):
        raise PalaceMissing(f"{lock.path} was removed or replaced", hint="Run the same command again.")


@contextlib.contextmanager
def read_palace(directory: Path) -> Iterator[SqliteSnapshot]:
    """The palace in a directory as it is now. Nothing in it is changed; others can read it and wait with writing.

    A palace with an earlier schema is read from a temporary copy that is brought up to date.

    Raises:
        NotFound: there is no palace.
        Busy: another process is writing for too long.
        SchemaTooNew, PalaceCorrupt, StorageError: it cannot be read.
    """
    verify_sqlite()
    path, steps = directory / DATABASE_FILE, load_migrations()
    if not is_there(path):
        raise NotFound(f"there is no palace in {directory}", argument="SOURCE", hint="Correct the path.")
    with contextlib.ExitStack() as stack, explained(path):
        lock = _lock_source(directory, stack)
        connection, identity = _open_to_read(path)
        stack.callback(connection.close)
        connection.execute("BEGIN")
        verify_schema(connection, len(steps))
        if schema_version(connection) < len(steps):
            connection = stack.enter_context(_brought_up(connection, steps))
        origin = Origin.of(connection)
        if origin is None:
            raise NotFound(f"there is no palace in {directory} yet", argument="SOURCE", hint="Correct the path.")
        yield SqliteSnapshot(path, connection, origin, identity, lock)


def _lock_source(directory: Path, stack: contextlib.ExitStack) -> FileLock | None:
    lock = FileLock(directory / LOCK_FILE)
    stack.callback(lock.close)
    try:
        lock.acquire(Deadline(COMMAND_SECONDS))
    except (StorageReadOnly, StorageFull):
        return None
    return lock


def _open_to_read(path: Path) -> tuple[SqliteConnection, Identity]:
    """A connection, and the files that it reads. Without the right to make files beside it, the file is read as one
    that never changes, as there is no log."""
    for options, frozen in (("mode=rw", False), ("mode=ro", False), ("mode=ro&immutable=1", True)):
        connection = None
        try:
            connection = open_reader(path, options)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return connection, Identity.of(path, frozen)
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            failure = error
            if is_there(log_of(path)) and options == "mode=ro":
                break
    raise explain(failure, path)


@contextlib.contextmanager
def _brought_up(connection: SqliteConnection, steps: Sequence[Migration]) -> Iterator[SqliteConnection]:
    """The same palace with the newest schema, in a file that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="mempalace-move-") as folder:
        path = Path(folder) / DATABASE_FILE
        with explained(path):
            create_file(path)
            with contextlib.closing(open_writer(path)) as copy:
                connection.backup(copy)
                migrate(copy, steps)
                copy.execute("BEGIN")
                yield copy


class SqliteCopy(PalaceCopy):
    """The file of a palace that is being made. The palace's write lock is held meanwhile."""

    words: FullTextTable

    def __init__(self, path: Path, connection: SqliteConnection, lock: FileLock, version: int) -> None:
        super().__init__(str(path.parent), FullTextTable())
        self._path = path
        self._lock = lock
        self._identity: Identity | None = None
        self._connection = connection
        self._version = version

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction, committed at the end of the block."""
        connection = self._connection
        with explained(self._path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection, clock.now)
                connection.execute("COMMIT")
            except BaseException:  # nothing may stay begun
                connection.roll_back()
                raise

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows by key."""
        with explained(self._path):
            yield from self._connection.execute(select(table, None))

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        """Store rows. Triggers count them."""
        places = ", ".join("?" * len(table.columns))
        sql = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})"
        with self.transaction() as tx:
            try:
                tx.connection.executemany(sql, rows)
            except sqlite3.IntegrityError as error:
                raise broken_rule(table, rows, str(error)) from error

    def last_passage(self, tx: Transaction) -> int:
        """The last chunk that has its words."""
        row = tx.connection.execute("SELECT rowid FROM passages ORDER BY rowid DESC LIMIT 1").fetchone()
        return row[0] if row else 0

    def add_words(self, tx: Transaction, texts: Mapping[int, str]) -> None:
        """Make chunks findable by the words of their texts."""
        for chunk, text in texts.items():
            self.words.add(tx, chunk, text)

    def clear(self, tx: Transaction) -> None:
        """Remove all rows, and all words."""
        for table in reversed(TABLES):
            tx.connection.execute(f"DELETE FROM {table.name}")
        for name in _NOT_OF_THE_COPY:
            tx.connection.execute(f"DELETE FROM {name}")
        tx.connection.execute("DELETE FROM passages")
        self.words.count_anew(tx)
        self.words.set_stale(tx, 0)

    def mark(self, origin: Origin) -> None:
        """Make it an unfinished copy of that palace."""
        with self.transaction() as tx:
            verify_unused(tx.connection, self.name)
            self.begin_anew(tx, origin)
            tx.connection.execute(f"PRAGMA user_version = {marked(self._version)}")

    def verify_held(self) -> None:
        """Return if the files are still those that were opened, and the lock is still held.

        Raises:
            PalaceMissing: they are not.
        """
        self._identity = self._identity or Identity.of(self._path)
        verify_identity(self._path, self._identity)
        _verify_lock(self._lock)

    def finish(self, numbers: Mapping[Table, int]) -> None:
        """Let it be a palace; its log is moved into the file."""
        with self.transaction() as tx:
            for table, number in numbers.items():
                noted = tx.connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (number, table.name))
                if not noted.rowcount and number and table.name in _numbered(tx):
                    tx.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, number))
            tx.connection.execute(f"PRAGMA user_version = {self._version}")
        with contextlib.suppress(sqlite3.Error):  # the log stays, and is read at the next opening
            checkpoint(self._connection)


def _numbered(tx: Transaction) -> set[str]:
    """The tables of which SQLite notes the last number."""
    rows = tx.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'")
    return {name for (name,) in rows}


@contextlib.contextmanager
def write_copy(directory: Path, origin: Origin) -> Iterator[SqliteCopy]:
    """The copy in a directory: a new one, or an unfinished one of the same palace.

    Raises:
        Conflict: the directory holds a palace, or an unfinished copy of another one.
        Busy: another process works on it.
        StorageError: it cannot be written.
    """
    verify_sqlite()
    create_directory(directory)
    path, steps = directory / DATABASE_FILE, load_migrations()
    with contextlib.ExitStack() as stack, explained(path):
        lock = FileLock(directory / LOCK_FILE)
        stack.callback(lock.close)
        if not lock.try_acquire():
            raise Busy(f"{directory} is in use: {lock.describe()}", hint="Stop that process, then try again.")
        if not is_there(path):
            create_file(path)
            with contextlib.suppress(OSError):  # what is left of an earlier palace is not trusted, and removed later
                discard_files(directory / "index")
        connection = stack.enter_context(contextlib.closing(open_writer(path)))
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        copy = SqliteCopy(path, connection, lock, len(steps))
        if schema_version(connection) == marked(len(steps)):
            with copy.transaction() as tx:
                copy.claim(tx, origin)
        else:
            verify_schema(connection, len(steps))
            if schema_version(connection):
                verify_unwritten(connection, str(directory), origin)
            connection.close_cursors()  # beside a statement that was not read to its end nothing can be committed
            migrate(connection, steps)
            copy.mark(origin)
        copy.verify_held()  # for the first time: there is a log by now
        yield copy


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite about the file are raised as those of the palace."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error
