"""The vectors of a palace in PostgreSQL, found by pgvector: exactly among few rows, through an index among many.

Which of the two it is, is decided here. The planner would take the index for a filter that leaves a fifth of the rows,
and lose a third of the neighbours silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import psycopg

from mempalace_mcp.core.errors import ModelMoved, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.postgres.failures import state_of
from mempalace_mcp.storage.postgres.vector_index import IndexKeeper, name_prefix
from mempalace_mcp.storage.queries import condition_of, count_drawers
from mempalace_mcp.storage.vectors import log
from mempalace_mcp.storage.vectors.log import Vectors, unit_query
from mempalace_mcp.storage.vectors.model import Difference, IndexState, Neighbour, PgvectorStatistics, Reconnection
from mempalace_mcp.storage.vectors.protocol import PalaceVectors, Read

STORED_AT_ONCE = 8
"""A vector takes 2 to 5 ms to enter the index, and the palace's lock is held meanwhile."""
EXACT_ROWS = 20_000
"""So many rows are compared in 25 to 45 ms."""
WIDTH, LARGE_WIDTH = 200, 400
"""Vectors that the index compares with at least (`hnsw.ef_search`)."""
LARGE_ROWS = 100_000
"""From so many on it is the larger width: the more vectors there are, the fewer neighbours are found."""
SPARE = 2
"""So many times the limit is taken from the index, whose order is that of rounded numbers."""
_SAMPLE_ROWS = 32
_ROUNDED = 1e-3
"""Numbers of 16 bits change a cosine by less."""
_DATA_EXCEPTION = "22000"

_JOINED = "drawers d JOIN chunks c ON c.drawer = d.id JOIN vectors v ON v.chunk = c.id"

# Names mean the tables of the present moment, all else is read as of the snapshot: also what the table was called.
# To compile a statement takes longer than to run any of these.
_LOOK = """
    SELECT coalesce((SELECT vector_dims(embedding) FROM vectors LIMIT 1), 0),
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'vectors'::regclass),
           (SELECT greatest(c.reltuples / greatest(d.reltuples, 1), 1) FROM pg_class c, pg_class d
            WHERE c.oid = 'chunks'::regclass AND d.oid = 'drawers'::regclass),
           (SELECT relname = 'vectors' FROM pg_class WHERE oid = 'vectors'::regclass),
           ARRAY (SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  WHERE i.indrelid = 'vectors'::regclass AND i.indisvalid AND starts_with(c.relname, 'nearest_')),
           set_config('jit', 'off', true)
"""
_EXACT = """
    WITH scored AS MATERIALIZED (SELECT v.chunk, v.embedding <#> :query AS distance FROM {joined})
    SELECT chunk, -distance FROM scored ORDER BY distance, chunk LIMIT :limit
"""
# The planner does not know which wing is meant, takes it for an average one and reads all vectors. OFFSET 0 keeps it
# from doing so: the vectors of each drawer are looked up.
_OF_FEW = """
    drawers d
    CROSS JOIN LATERAL (SELECT id FROM chunks WHERE drawer = d.id OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT chunk, embedding FROM vectors WHERE chunk = c.id OFFSET 0) AS v
    WHERE {condition}
"""
_OF_MANY = f"{_JOINED} WHERE {{condition}}"
_APPROXIMATE = """
    WITH found AS MATERIALIZED (
        SELECT v.chunk, v.embedding <#> :query AS distance FROM {joined}
        WHERE {condition} AND vector_dims(v.embedding) = {dimension}
        ORDER BY v.embedding::halfvec({dimension}) <#> (:query)::halfvec({dimension}) LIMIT :candidates
    )
    SELECT chunk, -distance FROM found ORDER BY distance, chunk LIMIT :limit
"""
# Without sorting the index is the only way to that order.
_SET_UP = """
    SELECT set_config('hnsw.ef_search', :width, true), set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('enable_sort', 'off', true)
"""
_RESET = "SELECT set_config('enable_sort', 'on', true)"
_COSINES = """
    SELECT v.chunk, vector_dims(v.embedding),
           CASE WHEN vector_dims(v.embedding) = :dimension THEN -(v.embedding <#> :query) END
    FROM unnest(:chunks::bigint[]) AS wanted (value) JOIN vectors v ON v.chunk = wanted.value
"""
_LIVE = f"SELECT count(*) FROM {_JOINED} WHERE d.deleted_at IS NULL"
_OTHER_LENGTHS = "SELECT chunk FROM vectors WHERE vector_dims(embedding) <> :dimension ORDER BY chunk"
_SAMPLE = """
    SELECT chunk, embedding FROM vectors
    WHERE chunk IN (SELECT chunk FROM vectors WHERE vector_dims(embedding) = :dimension ORDER BY random() LIMIT :count)
    ORDER BY chunk
"""
_MOST_LIKE = """
    SELECT -(embedding <#> :query) FROM vectors WHERE vector_dims(embedding) = {dimension}
    ORDER BY embedding::halfvec({dimension}) <#> (:query)::halfvec({dimension}) LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a search must know: the length of the vectors, PostgreSQL's estimates of their number and of the passages
    of a drawer, whether the vectors are those of the snapshot, and the indexes that can be used."""

    dimension: int
    rows: int
    passages: float
    are_present: bool
    indexes: Sequence[str]

    @classmethod
    def of(cls, connection: Connection) -> _Look:
        """A look, after which statements of the transaction are not compiled.

        Raises:
            ModelMoved: the palace has moved to another model since the snapshot was taken.
        """
        look = cls(*connection.execute(_LOOK).fetchone()[:5])
        if not look.are_present:
            raise ModelMoved("the palace has just moved to another model", hint="Try again.")
        return look

    @property
    def is_indexed(self) -> bool:
        """Is there an index of vectors of that length?"""
        return any(name.startswith(name_prefix(self.dimension)) for name in self.indexes)


class PostgresVectors(PalaceVectors):
    """Nearest neighbours by pgvector, as of the snapshot of the connection that asks.

    A filter that leaves up to `exact_rows` rows is answered exactly, and so is every query while there is no index.
    `advance` has one made when the palace has more vectors than that, unless `indexed` is false.
    """

    stored_at_once = STORED_AT_ONCE

    def __init__(self, url: PalaceUrl, *, exact_rows: int = EXACT_ROWS, indexed: bool = True) -> None:
        self._exact_rows = exact_rows
        self._indexed = indexed
        self._keeper = IndexKeeper(url, exact_rows)
        self._rows_live: int | None = None

    def nearest(
        self, connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter
    ) -> list[Neighbour]:
        """The `limit` live chunks nearest to a query that match the filter, best first.

        Raises:
            ModelMoved: the palace has moved to another model since the snapshot was taken.
            ModelMismatch: the query has another dimension than the palace's vectors.
            PalaceCorrupt: the palace's vectors differ in length.
        """
        look = _Look.of(connection)
        if look.dimension == 0 or limit < 1:
            return []
        query = unit_query(query, look.dimension)
        is_indexed = self._indexed and look.is_indexed
        most = self._exact_rows if is_indexed else look.rows / 2  # no need to count further
        rows = look.passages * count_drawers(connection, drawer_filter, int(most / look.passages) + 1)
        if is_indexed and rows > self._exact_rows:
            found = _approximate(connection, look, query, limit, drawer_filter)
            if len(found) == limit:
                return found
        return _exact(connection, query, limit, drawer_filter, are_few=2 * rows <= look.rows)

    def cosines(self, connection: Connection, query: Vectors, chunks: Sequence[int]) -> dict[int, float]:
        """The cosine to the query of those of the chunks that have a vector.

        Raises:
            ModelMismatch, PalaceCorrupt: as `nearest`.
        """
        query = unit_query(query, query.size)
        rows = connection.execute(
            _COSINES,
            {"dimension": query.size, "query": _value(connection, query), "chunks": connection.dialect.array(chunks)},
        ).fetchall()
        lengths = {length for _, length, _ in rows}
        if len(lengths) > 1:
            raise _differing()
        if lengths:
            unit_query(query, lengths.pop())
        return {chunk: cosine for chunk, _, cosine in rows}

    @property
    def rest(self) -> float:
        """Seconds until `advance` may work again: the index is being made."""
        return self._keeper.rest

    def advance(self, database_read: Read, limit: int) -> int:
        """See to it that there is an index if it is needed; it is made in the background. Returns 0."""
        if self._indexed:
            with database_read() as connection:
                self._keeper.look(connection)
        return 0

    def reconnect(self, connection: Connection) -> Reconnection[PgvectorStatistics]:
        """Forget failures, look at the index anew and verify it."""
        before = self.statistics()
        self._keeper.forget()
        differences = self.verify(connection)
        if self._indexed:
            self._keeper.look(connection)
        return Reconnection(before, self.statistics(), differences)

    def rebuild(self) -> bool:
        """Let `advance` make the index anew, while the present one answers. False when another server is at work."""
        return not self._indexed or self._keeper.make_anew()

    def verify(self, connection: Connection) -> list[Difference]:
        """Vectors of another length than the rest, and those of a sample that the index does not find."""
        look = _Look.of(connection)
        (self._rows_live,) = connection.execute(_LIVE).fetchone()
        rows = connection.execute(_OTHER_LENGTHS, {"dimension": look.dimension})
        found = [Difference("pgvector", chunk, "a vector of another length") for (chunk,) in rows]
        if look.is_indexed:
            found += _unfound(connection, look)
        return found

    def statistics(self) -> PgvectorStatistics:
        """The figures of the last look, without asking the server."""
        figures = replace(self._keeper.statistics(), rows_live=self._rows_live)
        return figures if self._indexed else replace(figures, mode="exact", state=IndexState.OFF)

    def close(self) -> None:
        """Close what is open. An index that is being made is finished by PostgreSQL alone."""
        self._keeper.close()


def _exact(
    connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter, *, are_few: bool
) -> list[Neighbour]:
    condition = condition_of(drawer_filter, connection.dialect)
    values = condition.values | {"query": _value(connection, query), "limit": limit}
    joined = (_OF_FEW if are_few else _OF_MANY).format(condition=condition.sql)
    try:
        rows = connection.execute(_EXACT.format(joined=joined), values).fetchall()
    except psycopg.Error as error:
        if state_of(error) == _DATA_EXCEPTION:
            raise _differing() from error
        raise
    return [Neighbour(*row) for row in rows]


def _approximate(
    connection: Connection, look: _Look, query: Vectors, limit: int, drawer_filter: DrawerFilter
) -> list[Neighbour]:
    """The nearest ones that the index finds, ranked by their cosines; fewer if it gives up before."""
    condition = condition_of(drawer_filter, connection.dialect)
    width = LARGE_WIDTH if look.rows >= LARGE_ROWS else WIDTH
    sql = _APPROXIMATE.format(joined=_JOINED, condition=condition.sql, dimension=look.dimension)
    values = {"query": _value(connection, query), "limit": limit, "candidates": SPARE * limit}
    with _by_index(connection, width):
        return [Neighbour(*row) for row in connection.execute(sql, condition.values | values)]


def _unfound(connection: Connection, look: _Look) -> list[Difference]:
    """Vectors of a sample of which the index finds neither themselves nor their like."""
    sample = connection.execute(_SAMPLE, {"dimension": look.dimension, "count": _SAMPLE_ROWS}).fetchall()
    sql, unfound = _MOST_LIKE.format(dimension=look.dimension), []
    with _by_index(connection, LARGE_WIDTH):
        for chunk, embedding in sample:
            row = connection.execute(sql, {"query": connection.dialect.vector(embedding)}).fetchone()
            if row is None or row[0] < 1 - _ROUNDED:
                unfound.append(Difference("pgvector", chunk, "not found by the index"))
    return unfound


@contextmanager
def _by_index(connection: Connection, width: int) -> Iterator[None]:
    """The statements of the block find by the index, if they can."""
    connection.execute(_SET_UP, {"width": str(width)})
    yield
    connection.execute(_RESET)  # after an error the transaction has ended


def _value(connection: Connection, query: Vectors) -> object:
    return connection.dialect.vector(np.ascontiguousarray(query, "<f4").tobytes())


def _differing() -> PalaceCorrupt:
    return PalaceCorrupt("the palace holds vectors of different lengths", hint=log.REINDEX)
