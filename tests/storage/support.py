"""Databases for tests: `with fresh_database(tmp_path) as database: ...`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.storage.database import Database
from mempalace_mcp.storage.transaction import Transaction, Work


@contextmanager
def fresh_database(directory: Path, *, now: Callable[[], Instant] = clock.now, readers: int = 8) -> Iterator[Database]:
    """A database in the directory, closed at the end."""
    database = Database(directory, now=now, readers=readers)
    try:
        yield database
    finally:
        database.close()


def soon() -> Deadline:
    """A deadline for work that does not have to wait."""
    return Deadline(20)


def add_wing(name: str) -> Work[int]:
    """A unit of work that files a wing and returns the seq under which it was done."""

    def work(transaction: Transaction) -> int:
        transaction.connection.execute("INSERT INTO wings (key, name) VALUES (?, ?)", (name.casefold(), name))
        return transaction.stamp.seq

    return work


def wings(database: Database) -> list[str]:
    """The names of all wings, in the order of their filing."""
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM wings ORDER BY id")]
