"""Chunks on their way to vectors: what is pending, what is stored, by which model, and to which drawer they belong."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Chunk, DrawerFilter, ModelStamp, Priority
from mempalace_mcp.storage.filters import condition_of
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk of a live drawer: `drawer` is the drawer's row, `start` and `stop` are characters of its content."""

    chunk: int
    drawer: int
    drawer_id: str
    start: int
    stop: int
    when_at: Instant
    source_file: str | None


@dataclass(frozen=True, slots=True)
class PendingCounts:
    """Chunks of live drawers that have no vector yet, by priority."""

    interactive: int
    bulk: int


class ChunkLog:
    """What the indexer and the search ask about chunks. Only chunks of live drawers are ever pending."""

    def pending(self, connection: sqlite3.Connection, limit: int, priority: Priority | None = None) -> list[Chunk]:
        """Chunks without a vector, interactive ahead of bulk, oldest first; of one priority or of both."""
        bulk = None if priority is None else priority is Priority.BULK
        rows = connection.execute(
            "SELECT p.chunk, substr(d.content, c.start + 1, c.stop - c.start)"
            " FROM pending p CROSS JOIN chunks c ON c.id = p.chunk CROSS JOIN drawers d ON d.id = c.drawer"
            f" {'' if bulk is None else 'WHERE p.bulk = :bulk'} ORDER BY p.bulk, p.chunk LIMIT :limit",
            {"bulk": bulk, "limit": limit},
        )
        return [Chunk(*row) for row in rows]

    def pending_count(self, connection: sqlite3.Connection) -> int:
        """How many chunks have no vector yet."""
        return int(connection.execute("SELECT count(*) FROM pending").fetchone()[0])

    def pending_counts(self, connection: sqlite3.Connection) -> PendingCounts:
        """How many chunks have no vector yet, by priority."""
        row = connection.execute("SELECT count(*) FILTER (WHERE NOT bulk), count(*) FILTER (WHERE bulk) FROM pending")
        return PendingCounts(*row.fetchone())

    def store_vectors(self, tx: Transaction, vectors: Sequence[tuple[int, bytes]]) -> int:
        """Keep the vectors of chunks that still exist and have none; returns how many."""
        connection = tx.connection
        before = connection.total_changes
        connection.executemany(
            "INSERT INTO vectors (chunk, embedding) SELECT :chunk, :vector"
            " WHERE EXISTS (SELECT 1 FROM chunks WHERE id = :chunk) ON CONFLICT (chunk) DO NOTHING",
            [{"chunk": chunk, "vector": vector} for chunk, vector in vectors],
        )
        stored = connection.total_changes - before
        connection.execute(
            "DELETE FROM pending WHERE chunk IN (SELECT value FROM json_each(?))",
            (json_array([chunk for chunk, _ in vectors]),),
        )
        if stored:
            _ = tx.stamp
        return stored

    def forget_vectors(self, tx: Transaction) -> int:
        """Drop all vectors and the model's stamp; every chunk of a live drawer is pending again. Returns how many."""
        connection = tx.connection
        _ = tx.stamp
        connection.execute("DELETE FROM vectors")
        connection.execute("DELETE FROM model")
        connection.execute("DELETE FROM pending")
        cursor = connection.execute(
            "INSERT INTO pending (chunk, bulk) SELECT c.id, 1 FROM chunks c JOIN drawers d ON d.id = c.drawer"
            " WHERE d.deleted_at IS NULL"
        )
        return cursor.rowcount

    def chunk_rows(
        self, connection: sqlite3.Connection, chunk_ids: Sequence[int], filter: DrawerFilter
    ) -> list[ChunkRow]:
        """Those of the chunks whose drawer is live and matches: the join of search with the truth."""
        condition = condition_of(filter)
        rows = connection.execute(
            "SELECT c.id, d.id, d.drawer_id, c.start, c.stop, d.when_at, d.source_file"
            " FROM json_each(:chunks) AS wanted CROSS JOIN chunks c ON c.id = wanted.value"
            f" CROSS JOIN drawers d ON d.id = c.drawer WHERE {condition.sql} ORDER BY wanted.key",
            condition.values | {"chunks": json_array(chunk_ids)},
        )
        return [ChunkRow(*row) for row in rows]

    def model_stamp(self, connection: sqlite3.Connection) -> ModelStamp | None:
        """The model of the stored vectors; None before the first."""
        row = connection.execute("SELECT name, quantization, dimension FROM model").fetchone()
        return ModelStamp(*row) if row else None

    def set_model_stamp(self, tx: Transaction, stamp: ModelStamp) -> None:
        """Record the model whose vectors are stored from now on."""
        _ = tx.stamp
        tx.connection.execute(
            "INSERT OR REPLACE INTO model (id, name, quantization, dimension) VALUES (1, ?, ?, ?)",
            (stamp.name, stamp.quantization, stamp.dimension),
        )


def renew_vectors(tx: Transaction, drawers: Sequence[int]) -> None:
    """Enter the vectors of drawers into the log anew: the indexes may have dropped those of deleted ones."""
    tx.connection.execute(
        "INSERT OR REPLACE INTO vectors (chunk, embedding) SELECT v.chunk, v.embedding FROM json_each(?) AS back"
        " CROSS JOIN chunks c ON c.drawer = back.value CROSS JOIN vectors v ON v.chunk = c.id ORDER BY v.position",
        (json_array(drawers),),
    )
