"""Reads the databases of other programs; what is wrong with one is a problem of few words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import Busy, InvalidArgument, PalaceError, StorageFull
from mempalace_mcp.core.foreign_database import ForeignDatabase, open_foreign
from mempalace_mcp.palace.importers.documents import Document, Problem, Source

_REASONS: tuple[tuple[type[PalaceError], str], ...] = (
    (Busy, "a database that changes faster than it can be copied"),
    (StorageFull, "no room for a copy of the database"),
    (InvalidArgument, "a database that is damaged or of an unknown version"),
    (PalaceError, "a database that cannot be read"),
)

_QUIET = 300 * 1_000_000

Reading = Callable[[Source, ForeignDatabase], Iterator[Document | Problem]]


def read_database(source: Source, read: Reading) -> Iterator[Document | Problem]:
    """What `read` finds in a snapshot of the database, and a problem if it cannot be read, or from some point on."""
    try:
        with open_foreign(source.path) as database:
            yield from read(source, database)
    except PalaceError as error:
        yield source.skipped(next(reason for kind, reason in _REASONS if isinstance(error, kind)))


def value_of(database: ForeignDatabase, sql: str, *parameters: str) -> Any:
    """The value in the first row of a query of one column; None if there is no row.

    Raises:
        InvalidArgument: the database is damaged.
    """
    values = [value for (value,) in database.rows(sql, parameters)]  # read to the end, so that nothing stays open
    return values[0] if values else None


def is_quiet(changed_at: Instant | None) -> bool:
    """Does a conversation that was changed then, or at no known time, count as finished? A database is written all the
    time, so that its own age does not tell."""
    return changed_at is None or clock.now() - changed_at > _QUIET
