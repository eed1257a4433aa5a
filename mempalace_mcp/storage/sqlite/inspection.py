"""Read-only inspection of a palace's file: it is not migrated, recovered or kept open."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.sqlite.connection import Identity, SqliteConnection, explain, is_there, log_of, open_reader
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.sqlite.migrations import load_migrations, schema_version
from mempalace_mcp.storage.token_vectors import count_faults
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.log import Snapshot

T = TypeVar("T")

DAMAGES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """The schema and the newest one known; then, if this version knows the schema: how many passages have no vector,
    which model made the vectors, and the moment at which this was so."""

    schema: int
    newest_schema: int
    pending: int = 0
    stamp: ModelStamp | None = None
    moment: Snapshot | None = None


def inspect(path: Path) -> Inspection:
    """Look into the palace's file, which may be in use.

    Raises:
        PalaceCorrupt: the file cannot be read, or is another program's.
        PalaceError: it cannot be opened.
    """

    def look(connection: SqliteConnection) -> Inspection:
        schema, newest = schema_version(connection), len(load_migrations())
        if schema != newest:
            return Inspection(schema, newest)
        drawers = DrawerStore(Lexicon(FullTextTable()))
        with log.snapshot(connection) as moment:
            pending, stamp = drawers.pending_count(connection), drawers.model_stamp(connection)
        return Inspection(schema, newest, pending, stamp, moment)

    found = ask(path, look)
    if found.schema == 0:
        raise PalaceCorrupt(f"{path} is no palace", hint="Name another directory with --palace.")
    return found


def damages(path: Path) -> list[str]:
    """The first few problems that SQLite finds in the pages of the file; reads all of them.

    Raises:
        PalaceError: as `inspect`.
    """
    check = f"PRAGMA quick_check({DAMAGES_SHOWN})"
    found = ask(path, lambda connection: [str(row[0]) for row in connection.execute(check)])
    return [] if found == ["ok"] else found


def faulty_token_vectors(path: Path) -> int:
    """How many passages have token vectors of a wrong size, or without a vector of the passage; reads all of them.

    Raises:
        PalaceError: as `inspect`.
    """
    return ask(path, count_faults)


def ask(path: Path, question: Callable[[SqliteConnection], T]) -> T:
    """The result of a query on the file. If it was read as immutable but has changed, it is queried again.

    Raises:
        PalaceError: as `inspect`.
    """
    while True:
        before = Identity.of(path, frozen=True)
        try:
            with contextlib.closing(open_to_inspect(path)) as connection:
                answer = question(connection)
        except sqlite3.Error as error:
            if not _has_thawed(path, before):
                raise explain(error, path) from error
        else:
            if not _has_thawed(path, before):
                return answer


def _has_thawed(path: Path, before: Identity) -> bool:
    return before.log is None and Identity.of(path, frozen=True) != before


def open_to_inspect(path: Path) -> SqliteConnection:
    """A connection that cannot write.

    A file without a log is read as immutable, since SQLite would make the log otherwise. A log whose shared memory is
    missing can only be read by making that.
    """
    if not is_there(log_of(path)):
        return open_reader(path, "mode=ro&immutable=1")
    connection = open_reader(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        return open_reader(path)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
