"""A look into a palace's file from outside, without bringing it up to date, recovering it or keeping it open."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.storage.connection import Connection, is_there, log_of, open_reader
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.failures import explain
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.migrations import load_migrations, schema_version
from mempalace_mcp.storage.vectors import truth
from mempalace_mcp.storage.vectors.truth import Moment

DAMAGES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """The schema and the newest one known; then, if this version knows the schema: how many passages have no vector,
    which model made the vectors, and the moment at which this was so."""

    schema: int
    newest_schema: int
    pending: int = 0
    stamp: ModelStamp | None = None
    moment: Moment | None = None


def inspect(path: Path) -> Inspection:
    """Look into the palace's file, which may be in use.

    Raises:
        PalaceCorrupt: the file cannot be read, or is another program's.
        PalaceError: it cannot be opened.
    """
    with _opened(path) as connection:
        schema, newest = schema_version(connection), len(load_migrations())
        if schema == 0:
            raise PalaceCorrupt(f"{path} is no palace", hint="Name another directory with --palace.")
        if schema != newest:
            return Inspection(schema, newest)
        drawers = DrawerStore(Lexicon())
        with truth.snapshot(connection) as moment:
            pending, stamp = drawers.pending_count(connection), drawers.model_stamp(connection)
        return Inspection(schema, newest, pending, stamp, moment)


def damages(path: Path) -> list[str]:
    """What SQLite finds wrong with the pages of the file, the first few of it; reads all of them.

    Raises:
        PalaceError: as `inspect`.
    """
    with _opened(path) as connection:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({DAMAGES_SHOWN})")]
    return [] if found == ["ok"] else found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Connection]:
    try:
        with contextlib.closing(_open(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise explain(error, path) from error


def _open(path: Path) -> Connection:
    """A connection that cannot write. A file without a log beside it is read as one that never changes, since SQLite
    would make the log; a log whose shared memory is missing can only be read by making that."""
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
