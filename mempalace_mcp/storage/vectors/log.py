"""What the vector indexes read from SQLite: the log of vectors, changed drawers, and which drawers are live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.errors import ModelMismatch, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import condition_of, rooms_of

Vectors = NDArray[np.float32]
Integers = NDArray[np.int64]

ROW_FIELDS = ("position", "chunk", "drawer", "wing", "room", "when_at", "seq", "live")
_ROW = "v.position, v.chunk, c.drawer, d.wing, d.room, d.when_at, d.seq, d.deleted_at IS NULL"
_JOINED = "vectors v JOIN chunks c ON c.id = v.chunk JOIN drawers d ON d.id = c.drawer"
_FETCH = 1024
REINDEX = "Run `mempalace-mcp daemon stop`, then `mempalace-mcp reindex --vectors`: it computes all vectors anew."
MOVE = "Run `mempalace-mcp reindex --model minilm`, or `multilingual`: it computes all vectors anew, while others work."


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that a connection sees: palace, last change number, last position of the log of vectors.

    `palace` tells logs apart: a palace that has moved to another model has another log. `dimension` is the length of
    the vectors, 0 when there are none.
    """

    palace: str
    seq: int
    position: int
    dimension: int


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A `DrawerFilter` with the rowids of this palace; None matches everything."""

    wing: int | None = None
    rooms: Integers | None = None
    drawers: Integers | None = None
    since: int | None = None
    before: int | None = None


@contextmanager
def snapshot(connection: Connection) -> Iterator[Snapshot]:
    """Read one consistent state, in the transaction that is open or else in a new one."""
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        yield _read_snapshot(connection)
    finally:
        if own and connection.in_transaction:
            connection.execute("COMMIT")


def _read_snapshot(connection: Connection) -> Snapshot:
    row = connection.execute(
        "SELECT CASE moves WHEN 0 THEN palace_id ELSE palace_id || '/' || moves END, seq,"
        " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'vectors'), 0),"
        " coalesce((SELECT length(embedding) / 4 FROM vectors LIMIT 1), 0) FROM state"
    ).fetchone()
    return Snapshot(*row)


def rows_after(connection: Connection, position: int, *, live: bool = False) -> Iterator[tuple[Integers, Vectors]]:
    """The log beyond a position in ascending order, in batches: `ROW_FIELDS` as columns, and vectors.

    `live` leaves out the rows of deleted drawers.
    """
    cursor = connection.execute(
        f"SELECT {_ROW}, v.embedding FROM {_JOINED} WHERE v.position > ?"
        f" {'AND d.deleted_at IS NULL' if live else ''} ORDER BY v.position",
        (position,),
    )
    while rows := cursor.fetchmany(_FETCH):
        yield np.array([row[:-1] for row in rows], np.int64).T, _matrix([row[-1] for row in rows])


def log_after(connection: Connection, position: int, limit: int) -> tuple[Integers, Integers, Vectors]:
    """Positions, chunks and vectors of at most `limit` rows beyond a position, in ascending order."""
    rows = connection.execute(
        "SELECT position, chunk, embedding FROM vectors WHERE position > ? ORDER BY position LIMIT ?",
        (position, limit),
    ).fetchall()
    positions = np.array([row[0] for row in rows], np.int64)
    chunks = np.array([row[1] for row in rows], np.int64)
    return positions, chunks, _matrix([row[2] for row in rows])


def vectors_of(connection: Connection, chunks: Sequence[int]) -> tuple[Integers, Vectors]:
    """The vectors of those of the chunks that have one."""
    dialect = connection.dialect
    rows = connection.execute(
        f"SELECT v.chunk, v.embedding FROM {dialect.listed('?', 'wanted')}"
        f" {dialect.ordered_join} vectors v ON v.chunk = wanted.value",
        (dialect.array(chunks),),
    ).fetchall()
    return np.array([row[0] for row in rows], np.int64), _matrix([row[1] for row in rows])


def changes_after(connection: Connection, seq: int) -> Integers:
    """Drawers changed after a change number, by id: columns id, wing, room, when_at, seq, live."""
    # the plus sign keeps SQLite from reading all drawers in the order of their ids
    rows = connection.execute(
        "SELECT id, wing, room, when_at, seq, deleted_at IS NULL FROM drawers WHERE seq > ? ORDER BY +id", (seq,)
    ).fetchall()
    return np.array(rows, np.int64).reshape(-1, 6).T


def positions_of_drawers(connection: Connection, drawers: Sequence[int]) -> Integers:
    """The positions of all vectors of these drawers."""
    dialect, join = connection.dialect, connection.dialect.ordered_join
    rows = connection.execute(
        f"SELECT v.position FROM {dialect.listed('?', 'wanted')}"
        f" {join} chunks c ON c.drawer = wanted.value {join} vectors v ON v.chunk = c.id",
        (dialect.array(drawers),),
    ).fetchall()
    return _integers(rows)


def count_after(connection: Connection, position: int) -> int:
    """The number of vectors beyond a position."""
    if position == 0:
        return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
    return int(connection.execute("SELECT count(*) FROM vectors WHERE position > ?", (position,)).fetchone()[0])


def entries(connection: Connection) -> Integers:
    """The whole log: columns position and chunk, by position."""
    rows = connection.execute("SELECT position, chunk FROM vectors ORDER BY chunk").fetchall()
    columns = np.array(rows, np.int64).reshape(-1, 2).T
    return np.ascontiguousarray(columns[:, np.argsort(columns[0], kind="stable")])


def vectors_at(connection: Connection, positions: Sequence[int]) -> Iterator[tuple[int, int, Vectors]]:
    """Position, chunk and vector of those of the positions that exist."""
    dialect = connection.dialect
    for position, chunk, blob in connection.execute(
        f"SELECT v.position, v.chunk, v.embedding FROM {dialect.listed('?', 'wanted')}"
        f" {dialect.ordered_join} vectors v ON v.position = wanted.value",
        (dialect.array(positions),),
    ):
        yield position, chunk, np.frombuffer(blob, "<f4")


def live_positions(connection: Connection, chunks: Sequence[int], drawer_filter: DrawerFilter) -> dict[int, int]:
    """The positions of the vectors of these chunks, as far as their drawers are live and match the filter."""
    dialect, join = connection.dialect, connection.dialect.ordered_join
    condition = condition_of(drawer_filter, dialect)
    rows = connection.execute(
        f"SELECT v.chunk, v.position FROM {dialect.listed(':chunks', 'wanted')}"
        f" {join} vectors v ON v.chunk = wanted.value {join} chunks c ON c.id = v.chunk"
        f" {join} drawers d ON d.id = c.drawer WHERE {condition.sql}",
        {"chunks": dialect.array(chunks), **condition.values},
    )
    return dict(rows.fetchall())


def row_filter(connection: Connection, drawer_filter: DrawerFilter) -> RowFilter:
    """The filter as rowids; an unknown wing, room or file matches nothing."""
    wing = rooms = drawers = None
    if drawer_filter.wing is not None:
        row = connection.execute("SELECT id FROM wings WHERE key = ?", (drawer_filter.wing,)).fetchone()
        wing = row[0] if row else -1
    if drawer_filter.room is not None or drawer_filter.within is not None:
        rooms = _integers([(room,) for room, _ in rooms_of(connection, drawer_filter)])
    if drawer_filter.source_file is not None:
        drawers = _integers(
            connection.execute("SELECT id FROM drawers WHERE source_file = ?", (drawer_filter.source_file,)).fetchall()
        )
    return RowFilter(wing, rooms, drawers, drawer_filter.since, drawer_filter.before)


def unit_query(query: Vectors, dimension: int) -> Vectors:
    """The query at unit length.

    Raises:
        ModelMismatch: it has another dimension.
    """
    if query.shape != (dimension,):
        raise ModelMismatch(
            f"the query has {query.size} dimensions, the palace's vectors have {dimension}",
            hint=f"Use the model that made the palace. Or: {REINDEX}",
        )
    length = float(np.linalg.norm(query))
    return np.ascontiguousarray(query / length if length > 0 else query, np.float32)


def _matrix(blobs: Sequence[bytes]) -> Vectors:
    """Raises:
    PalaceCorrupt: the vectors differ in length.
    """
    if not blobs:
        return np.empty((0, 0), np.float32)
    size = len(blobs[0])
    if size == 0 or size % 4 or any(len(blob) != size for blob in blobs):
        raise PalaceCorrupt("the palace holds vectors of different lengths", hint=REINDEX)
    return np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1)


def _integers(rows: Sequence[tuple[int]]) -> Integers:
    return np.array([row[0] for row in rows], np.int64)
