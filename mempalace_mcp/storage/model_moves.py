"""The move of a palace to another embedding model: the new vectors lie beside the old ones until they are complete.

Until then everything is answered from the old ones. The switch is one transaction that renames two tables, so whatever
ends in between, the palace has all vectors of the one model or all of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mempalace_mcp.core.model import Chunk, ModelStamp
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkLog
from mempalace_mcp.storage.token_vectors import extend_backlog
from mempalace_mcp.storage.transactions import Transaction

_MISSING = (
    "d.deleted_at IS NULL AND c.id > :after"
    " AND NOT EXISTS (SELECT 1 FROM other_vectors o WHERE o.chunk = c.id)"
    " AND NOT EXISTS (SELECT 1 FROM pending p WHERE p.chunk = c.id)"
)
"""Chunks that are found by meaning now, and would not be after the switch."""


@dataclass(frozen=True, slots=True)
class OtherVectors:
    """The vectors beside those that answer: of which model, and whether it is `wanted` or being dropped."""

    stamp: ModelStamp
    wanted: bool


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """A move under way: to which model, how many passages have its vector, and how many there are in all."""

    stamp: ModelStamp
    done: int
    total: int


def other_vectors(connection: Connection) -> OtherVectors | None:
    """What lies beside the vectors that answer, None if nothing does."""
    row = connection.execute("SELECT name, quantization, dimension, wanted FROM other_model").fetchone()
    return OtherVectors(ModelStamp(*row[:3]), bool(row[3])) if row else None


def move_progress(connection: Connection) -> MoveProgress | None:
    """How far the move is, None if there is none."""
    other = other_vectors(connection)
    if other is None or not other.wanted:
        return None
    (done,) = connection.execute("SELECT count(*) FROM other_vectors").fetchone()
    join = connection.dialect.ordered_join
    (total,) = connection.execute(
        f"SELECT count(*) FROM vectors v {join} chunks c ON c.id = v.chunk {join} drawers d ON d.id = c.drawer"
        " WHERE d.deleted_at IS NULL"
    ).fetchone()
    return MoveProgress(other.stamp, done, max(done, total))


def begin_move(tx: Transaction, stamp: ModelStamp) -> bool:
    """Ask for a move to a model; False if the palace has it already, which ends a move to another one.

    What is there of the same model, from a move that was ended, is kept.
    """
    connection, other = tx.connection, other_vectors(tx.connection)
    tx.mark_changed()
    if ChunkLog().model_stamp(connection) == stamp:
        connection.execute("UPDATE other_model SET wanted = 0")
        return False
    if other is not None and other.stamp != stamp:
        connection.execute("DELETE FROM other_vectors")
    _note(connection, OtherVectors(stamp, wanted=True))
    return True


def missing_chunks(connection: Connection, after: int, limit: int) -> list[Chunk]:
    """The next chunks beyond a number that have no vector of the other model, by number."""
    join = connection.dialect.ordered_join
    rows = connection.execute(
        "SELECT c.id, substr(d.content, c.start + 1, c.stop - c.start)"
        f" FROM chunks c {join} drawers d ON d.id = c.drawer WHERE {_MISSING} ORDER BY c.id LIMIT :limit",
        {"after": after, "limit": limit},
    )
    return [Chunk(*row) for row in rows]


def store_other_vectors(tx: Transaction, stamp: ModelStamp, vectors: Sequence[tuple[int, bytes]]) -> int:
    """Keep vectors of the other model if it is still wanted; returns how many were new."""
    if other_vectors(tx.connection) != OtherVectors(stamp, wanted=True):
        return 0
    return tx.connection.executemany(
        "INSERT INTO other_vectors (chunk, embedding) SELECT :chunk, :vector"
        " WHERE EXISTS (SELECT 1 FROM chunks WHERE id = :chunk) ON CONFLICT (chunk) DO NOTHING",
        [{"chunk": chunk, "vector": tx.connection.dialect.vector(vector)} for chunk, vector in vectors],
    ).rowcount


def switch_model(tx: Transaction, stamp: ModelStamp) -> bool:
    """Let the vectors of the other model answer from now on; False if some are missing, or it is not wanted any more.

    Chunks that have no vector at all stay pending.
    """
    connection, chunks = tx.connection, ChunkLog()
    if other_vectors(connection) != OtherVectors(stamp, wanted=True) or missing_chunks(connection, 0, 1):
        return False
    former = chunks.model_stamp(connection)
    for old, new in (("vectors", "former_vectors"), ("other_vectors", "vectors"), ("former_vectors", "other_vectors")):
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.execute("UPDATE state SET moves = moves + 1")
    connection.execute("DELETE FROM pending WHERE chunk IN (SELECT chunk FROM vectors)")
    connection.execute("DELETE FROM other_model")
    if former is not None:
        _note(connection, OtherVectors(former, wanted=False))
    chunks.set_model_stamp(tx, stamp)
    extend_backlog(tx)
    return True


def drop_other_vectors(tx: Transaction, limit: int) -> int:
    """Drop some of the vectors that are not wanted any more; returns how many, 0 when none were left."""
    connection, other = tx.connection, other_vectors(tx.connection)
    if other is None or other.wanted:
        return 0
    dropped = connection.execute(
        "DELETE FROM other_vectors WHERE position IN (SELECT position FROM other_vectors ORDER BY position LIMIT ?)",
        (limit,),
    ).rowcount
    if not dropped:
        connection.execute("DELETE FROM other_model")
    return dropped


def _note(connection: Connection, other: OtherVectors) -> None:
    stamp = other.stamp
    connection.execute("DELETE FROM other_model")
    connection.execute(
        "INSERT INTO other_model (id, name, quantization, dimension, wanted) VALUES (1, ?, ?, ?, ?)",
        (stamp.name, stamp.quantization, stamp.dimension, int(other.wanted)),
    )
