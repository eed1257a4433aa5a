"""The approximate index of a palace's vectors in PostgreSQL: whether one is needed, and its making in the background.

An index holds the vectors of one length, rounded to 16 bits. Its name says the length. Rows of another length are left
out of it: a table that changes its name in a move to another model takes vectors of any length at once.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import psycopg

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.model_moves import other_vectors
from mempalace_mcp.storage.postgres.connection import PostgresConnection, connect
from mempalace_mcp.storage.postgres.failures import explain, state_of
from mempalace_mcp.storage.postgres.turns import Desk, Lease
from mempalace_mcp.storage.turns import Task
from mempalace_mcp.storage.vectors.model import IndexState, PgvectorStatistics

logger = logging.getLogger(__name__)

LINKS = 16
"""Of each vector to others (`m`)."""
CARE = 128
"""Vectors compared with for each that is added (`ef_construction`)."""
REST_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 600.0
CLOSE_SECONDS = 1.0
MOST_KILOBYTES = 1024 * 1024
"""Memory for the making of an index, as far as the index needs it: beyond it the rest is added far more slowly."""
_LEAST_KILOBYTES = 64 * 1024
_OVERHEAD_BYTES = 400
"""Of a vector in an index that is being made: its links and their bookkeeping."""
_SHORT_OF_SPACE = "53"

_LOOK = """
    SELECT coalesce((SELECT vector_dims(embedding) FROM vectors LIMIT 1), 0),
           (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = 'vectors'::regclass),
           EXISTS (SELECT 1 FROM vectors ORDER BY chunk LIMIT 1 OFFSET :rows),
           EXISTS (SELECT 1 FROM pg_stat_progress_create_index
                   WHERE relid IN ('vectors'::regclass, 'other_vectors'::regclass))
"""
_INDEXES = """
    SELECT c.relname::text, i.indrelid = 'vectors'::regclass, i.indisvalid, c.reltuples::bigint, pg_relation_size(c.oid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid IN ('vectors'::regclass, 'other_vectors'::regclass) AND starts_with(c.relname, 'nearest_')
"""
_EXTENSION = """
    SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector'
"""


def name_prefix(dimension: int) -> str:
    """How the names of indexes for vectors of that length begin."""
    return f"nearest_{dimension}_"


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """An index by its name: whether it is of the vectors that answer, and can be used."""

    name: str
    answers: bool
    valid: bool
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class IndexView:
    """What there is; `rows` is PostgreSQL's estimate, if it has one. `many` says that an index pays, `busy` that a
    server makes one now, `moving` that the palace moves to another model, which will need another index."""

    dimension: int
    rows: int | None
    many: bool
    busy: bool
    moving: bool
    found: Sequence[FoundIndex]

    @property
    def current(self) -> FoundIndex | None:
        """The index that searches use."""
        prefix = name_prefix(self.dimension)
        return next((each for each in self.found if each.answers and each.valid and each.name.startswith(prefix)), None)

    @property
    def superfluous(self) -> list[FoundIndex]:
        """Those that were not finished, or are of former vectors."""
        return [each for each in self.found if each is not self.current]


def view(connection: Connection, least_rows: int) -> IndexView:
    """Look at the indexes of a palace that needs one for more than `least_rows` vectors."""
    dimension, rows, many, busy = connection.execute(_LOOK, {"rows": least_rows}).fetchone()
    found = [FoundIndex(*row) for row in connection.execute(_INDEXES)]
    other = other_vectors(connection)
    return IndexView(dimension, rows, many, busy, other is not None and other.wanted, found)


class IndexKeeper:
    """Makes the index that the palace needs, in a thread, and drops those that it does not need.

    One server does it at a time, and never while the palace moves to another model. PostgreSQL finishes an index also
    when the server that asked for it is gone. `look` is called by one thread, the others by any.
    """

    def __init__(self, url: PalaceUrl, least_rows: int) -> None:
        self._url = url
        self._least_rows = least_rows
        self._desk = Desk(url)
        self._lease = Lease(self._desk, Task.MOVE)
        self._thread: threading.Thread | None = None
        self._view: IndexView | None = None
        self._anew = False
        self._closed = False
        self._retry_at = 0.0
        self._statistics = _NOTHING

    @property
    def rest(self) -> float:
        """Seconds until it is worthwhile to look again; 0 unless an index is being made here."""
        return REST_SECONDS if self._works() else 0.0

    def look(self, connection: Connection) -> None:
        """Look at what there is, and begin to make or drop indexes if that is needed."""
        if self._closed or self._works():
            return
        self._view = seen = view(connection, self._least_rows)
        if self._anew and not self._needs_one(seen):
            self._anew = False
            self._lease.release()
        if self._has_work(seen) and time.monotonic() >= self._retry_at:
            self._thread = threading.Thread(target=self._work, name="index of vectors", daemon=True)
            self._thread.start()

    def make_anew(self) -> bool:
        """Let the next look make the index anew; the present one answers meanwhile. False if another server is at work.

        Raises:
            PalaceError: the server cannot be asked.
        """
        if not self._works() and not self._lease.take():
            return False
        self._anew, self._retry_at = True, 0.0
        return True

    def forget(self) -> None:
        """Forget failures, and the connection."""
        self._retry_at = 0.0
        self._statistics = replace(self._statistics, failures=0, last_error=None)
        self._desk.close()

    def statistics(self) -> PgvectorStatistics:
        """As of the last look."""
        seen = self._view
        if seen is None:
            return self._statistics
        current = seen.current
        return replace(
            self._statistics,
            state=self._state(seen),
            rows=seen.rows,
            dimension=seen.dimension,
            rows_indexed=current.rows if current else 0,
            bytes_index=current.size if current else 0,
        )

    def close(self) -> None:
        """Begin nothing more. What PostgreSQL is at goes on there."""
        self._closed = True
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        if self._anew:
            with suppress(PalaceError):  # it ends by itself
                self._lease.release()
        self._desk.close()

    def _state(self, seen: IndexView) -> IndexState:
        if seen.current is not None:
            return IndexState.READY
        if self._works() or seen.busy:
            return IndexState.BUILDING
        return IndexState.FAILED if self._statistics.failures else IndexState.ABSENT

    def _needs_one(self, seen: IndexView) -> bool:
        return seen.many if seen.current is None else self._anew

    def _has_work(self, seen: IndexView) -> bool:
        """Is there an index to make or to drop, and neither another server at it nor a move under way?"""
        return (self._needs_one(seen) or bool(seen.superfluous)) and not (seen.busy or seen.moving)

    def _works(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        try:
            if not self._lease.take():
                return
            try:
                self._tend()
            finally:
                self._lease.release()
        except (PalaceError, psycopg.Error) as error:
            failures = self._statistics.failures + 1
            told = explain(error, self._url).message if isinstance(error, psycopg.Error) else error.message
            self._retry_at = time.monotonic() + min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (failures - 1))
            self._statistics = replace(self._statistics, failures=failures, last_error=told)
            logger.warning("the index of vectors could not be made and will be tried again: %s", told)

    def _tend(self) -> None:
        """Drop what is not needed, and make what is. Another server may have done it meanwhile."""
        connection = connect(self._url)
        try:
            seen = self._desk.do(lambda desk: view(desk, self._least_rows))
            if not self._has_work(seen):
                return
            self._drop(connection, seen.superfluous)
            if self._needs_one(seen):
                started = time.monotonic()
                self._make(connection, seen)
                self._anew = False
                self._drop(connection, [seen.current] if seen.current else [])
                self._statistics = replace(
                    self._statistics,
                    builds=self._statistics.builds + 1,
                    build_seconds=round(time.monotonic() - started, 3),
                    failures=0,
                    last_error=None,
                )
            self._view = self._desk.do(lambda desk: view(desk, self._least_rows))
        finally:
            connection.close()

    def _drop(self, connection: PostgresConnection, indexes: Sequence[FoundIndex]) -> None:
        for index in indexes:
            connection.script(f"DROP INDEX CONCURRENTLY IF EXISTS {self._url.schema}.{index.name}")

    def _make(self, connection: PostgresConnection, seen: IndexView) -> None:
        """Make the index; without helpers if there is no room for memory that they share."""
        extension = self._desk.run(_EXTENSION)[0][0]
        name = f"{name_prefix(seen.dimension)}{secrets.token_hex(4)}"
        statement = (
            f"CREATE INDEX CONCURRENTLY {name} ON {self._url.schema}.vectors"
            f" USING hnsw ((embedding::{extension}.halfvec({seen.dimension})) {extension}.halfvec_ip_ops)"
            f" WITH (m = {LINKS}, ef_construction = {CARE}) WHERE {extension}.vector_dims(embedding) = {seen.dimension}"
        )
        self._provide(connection, seen)
        try:
            connection.script(statement)
        except psycopg.Error as error:
            if not state_of(error).startswith(_SHORT_OF_SPACE) or not self._url.prepares:
                raise
            connection.script(f"DROP INDEX CONCURRENTLY IF EXISTS {self._url.schema}.{name}")
            connection.script("SET max_parallel_maintenance_workers = 0")
            connection.script(statement)

    def _provide(self, connection: PostgresConnection, seen: IndexView) -> None:
        """Give the connection time and memory. Behind a pooler it is not ours alone and stays as it is."""
        if self._url.prepares:
            needed = (seen.rows or self._least_rows) * (2 * seen.dimension + _OVERHEAD_BYTES) // 1024
            memory = min(MOST_KILOBYTES, max(_LEAST_KILOBYTES, needed))
            connection.script("SET statement_timeout = 0")
            connection.script("SET lock_timeout = 0")
            connection.script(f"SET maintenance_work_mem = {memory}")


_NOTHING = PgvectorStatistics(
    mode="pgvector",
    state=IndexState.ABSENT,
    rows=None,
    rows_indexed=0,
    rows_live=None,
    dimension=0,
    bytes_index=0,
    builds=0,
    build_seconds=None,
    failures=0,
    last_error=None,
)
