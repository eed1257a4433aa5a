"""Databases, disks and other processes for tests: `with fresh_database(tmp_path) as database: ...`.

This is the one place where tests of storage open a store. A file of tests that says
`pytestmark = pytest.mark.usefixtures("each_store")` runs once for each of them.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from unittest import SkipTest

from mempalace_mcp.core import clock
from mempalace_mcp.core.call_context import Deadline, IdempotencyKey
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.sqlite.connection import SqliteConnection
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.sqlite.migrations import load_migrations, migrate
from mempalace_mcp.storage.transactions import Transaction, Work
from mempalace_mcp.storage.word_table import WordTable

if TYPE_CHECKING:  # what imports the client of PostgreSQL costs each of the processes of tests a tenth of a second
    from tests.postgres_server import Palaces

ROOT = Path(__file__).parents[2]
DIGEST = b"of the request  "


@contextmanager
def fresh_database(directory: Path, *, now: Callable[[], Instant] = clock.now, readers: int = 8) -> Iterator[Database]:
    """A database in the directory, closed at the end."""
    database = Database(directory, now=now, readers=readers)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def fresh_store(directory: Path, *, now: Callable[[], Instant] = clock.now) -> Iterator[PalaceDatabase]:
    """A database of the kind that the test runs on, closed at the end."""
    palaces = POSTGRES.get()
    if palaces is None:
        with fresh_database(directory, now=now) as database:
            yield database
        return
    from mempalace_mcp.storage.postgres.database import PostgresDatabase
    from tests.postgres_server import fresh_schema

    with fresh_schema(palaces.address) as url, closing(PostgresDatabase(url, directory, now=now)) as other:
        yield other


POSTGRES: ContextVar[Palaces | None] = ContextVar("POSTGRES", default=None)
"""The palaces that are used in place of SQLite; `each_store` sets it."""


@contextmanager
def fresh_connection(path: str = ":memory:", started: Instant = 0) -> Iterator[Connection]:
    """A connection to a new palace's tables, in memory or in a file; `started` is the instant of its last write."""
    palaces = POSTGRES.get()
    with _in_sqlite(path, started) if palaces is None else palaces.lend(started) as connection:
        yield connection


@contextmanager
def _in_sqlite(path: str, started: Instant) -> Iterator[Connection]:
    with connected(path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection, load_migrations())
        connection.execute(
            "INSERT INTO state (id, palace_id, created_at, seq, recorded_at) VALUES (1, 'test', ?, 0, ?)",
            (started, started),
        )
        yield connection


@contextmanager
def connected(path: str | Path) -> Iterator[SqliteConnection]:
    """A connection of its own to a palace's file, closed at the end."""
    with closing(sqlite3.connect(path, isolation_level=None, factory=SqliteConnection)) as connection:
        yield connection


def word_table() -> WordTable:
    """The table of words of such a connection."""
    if POSTGRES.get() is None:
        return FullTextTable()
    from mempalace_mcp.storage.postgres.words import PostgresWords

    return PostgresWords()


@contextmanager
def unit(connection: Connection, now: Callable[[], Instant]) -> Iterator[Transaction]:
    """A unit of work as the database runs it, rolled back when something is refused."""
    connection.execute("BEGIN IMMEDIATE" if POSTGRES.get() is None else "BEGIN")
    try:
        transaction = Transaction(connection, now)
        yield transaction
        if transaction.last_stamp is not None:
            transaction.last_stamp.save(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def traced(connection: Connection) -> Iterator[list[str]]:
    """The statements that run on the connection within the block, with their values."""
    assert isinstance(connection, SqliteConnection), "statements are looked at on SQLite alone"
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        yield statements
    finally:
        connection.set_trace_callback(None)


def plan(connection: Connection, statement: str, values: dict[str, object] | None = None) -> list[str]:
    """How SQLite would run a statement, step by step."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values or {})]


def broken_references(connection: Connection) -> list[Any]:
    """Rows that refer to nothing. PostgreSQL lets none be written."""
    return connection.execute("PRAGMA foreign_key_check").fetchall() if POSTGRES.get() is None else []


def verify_words(connection: Connection) -> None:
    """Fail if FTS5 finds its index damaged. PostgreSQL's is one of a table."""
    if POSTGRES.get() is None:
        connection.execute("INSERT INTO passages (passages) VALUES ('integrity-check')")


def ignore_references(connection: Connection) -> None:
    """Let rows be written that refer to nothing, as damage leaves them."""
    connection.execute(
        "PRAGMA foreign_keys = OFF" if POSTGRES.get() is None else "SET session_replication_role = replica"
    )


def soon() -> Deadline:
    """A deadline for work that does not have to wait."""
    return Deadline(20)


def keyed(key: str, digest: bytes = DIGEST, scope: str = "tests", seconds: float = 20) -> Deadline:
    """A call under an idempotency key, with time enough."""
    return Deadline(seconds, idempotency_key=IdempotencyKey(scope, key, digest))


def receipts(database: PalaceDatabase) -> list[tuple[str, str]]:
    """Scope and key of all that are kept, by age."""
    with database.read() as connection:
        return connection.execute("SELECT scope, key FROM receipts ORDER BY recorded_at, scope, key").fetchall()


def add_wing(name: str) -> Work[int]:
    """A unit of work that files a wing and returns the seq under which it was done."""

    def work(transaction: Transaction) -> int:
        transaction.connection.execute("INSERT INTO wings (key, name) VALUES (?, ?)", (name.casefold(), name))
        return transaction.stamp.seq

    return work


def wings(database: PalaceDatabase) -> list[str]:
    """The names of all wings, in the order of their filing."""
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM wings ORDER BY id")]


class Child:
    """Another process at work on a palace; see `tests.storage.child`. Killed at the end if it still runs."""

    def __init__(self, act: str, *arguments: object, module: str = "tests.storage.child") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, act, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> str:
        """The next line it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process ended with {self._process.wait()}"
        return line.rstrip("\n")

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def rest(self) -> list[str]:
        """All it has still to print, up to its end, which must be a good one."""
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        assert self._process.wait() == 0
        return lines

    def kill(self) -> list[str]:
        """End it by SIGKILL; returns what it had printed."""
        self._process.kill()
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        self._process.wait()
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class Disk:
    """A small file system of its own, which can be filled and made read-only."""

    def __init__(self, path: Path, kilobytes: int) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can mount a file system")
        path.mkdir()
        self.path = path
        self._filler = path / "filler"
        _run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", path)

    def fill(self, leave_kilobytes: int = 0) -> None:
        """Use up all space but so many kilobytes."""
        with self._filler.open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                filler.truncate(max(0, filler.tell() // 4096 - leave_kilobytes // 4) * 4096)

    def empty(self) -> None:
        """Give the space back."""
        self._filler.unlink()

    def forbid_writing(self) -> None:
        """Make it read-only."""
        _run("mount", "-o", "remount,ro", self.path)

    def allow_writing(self) -> None:
        """Make it writable again."""
        _run("mount", "-o", "remount,rw", self.path)

    def unmount(self) -> None:
        """Take it away; fails while a file on it stays open. A process that is ending closes its files last."""
        for pause in (0.1, 0.5, 2.0):
            if subprocess.run(["umount", self.path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(pause)
        _run("umount", self.path)


@contextmanager
def small_disk(path: Path, kilobytes: int = 4096) -> Iterator[Disk]:
    """A file system of its own, gone at the end."""
    disk = Disk(path, kilobytes)
    try:
        yield disk
    finally:
        disk.unmount()


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, timeout=20)
