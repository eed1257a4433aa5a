"""The token vectors of chunks: stored with their vectors, read for the candidates of a search, added to old palaces.

Every chunk above the backlog that has a vector has token vectors, too, unless its model gives none. The backlog is what
an earlier version, a repair or a move to another model has left; the latest of its chunks get theirs first. Only one of
the bundled models gives token vectors: what is left of them after a move is right again after a move back.
"""

from __future__ import annotations

from collections.abc import Sequence

from mempalace_mcp.core.model import TOKEN_BYTES, Chunk
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Transaction

_WHOLE = f"length(packed) % {TOKEN_BYTES} = 0"
_OWNED = "EXISTS (SELECT 1 FROM vectors v WHERE v.chunk = token_vectors.chunk)"


def store_token_vectors(tx: Transaction, packed: Sequence[tuple[int, bytes]]) -> int:
    """Keep the token vectors of chunks that have a vector and none of these yet; returns how many."""
    cursor = tx.connection.executemany(
        "INSERT INTO token_vectors (chunk, packed) SELECT :chunk, :packed"
        " WHERE EXISTS (SELECT 1 FROM vectors WHERE chunk = :chunk) ON CONFLICT (chunk) DO NOTHING",
        [{"chunk": chunk, "packed": tokens} for chunk, tokens in packed],
    )
    return cursor.rowcount


def token_vectors_of(connection: Connection, chunks: Sequence[int]) -> dict[int, bytes]:
    """The packed token vectors of those of the chunks that have any; damaged ones count as missing."""
    dialect = connection.dialect
    rows = connection.execute(
        f"SELECT t.chunk, t.packed FROM {dialect.listed('?', 'wanted')}"
        f" {dialect.ordered_join} token_vectors t ON t.chunk = wanted.value WHERE {_WHOLE}",
        (dialect.array(chunks),),
    )
    return dict(rows.fetchall())


def backlog_end(connection: Connection) -> int:
    """The last chunk of the backlog; 0 when there is none."""
    return int(connection.execute("SELECT last FROM token_backlog").fetchone()[0])


def backlog_size(connection: Connection) -> int:
    """How many chunks with a vector are in the backlog; a few of them may have token vectors already."""
    end = backlog_end(connection)
    if not end:
        return 0
    return int(connection.execute("SELECT count(*) FROM vectors WHERE chunk <= ?", (end,)).fetchone()[0])


def latest_in_backlog(connection: Connection, limit: int) -> list[Chunk]:
    """The latest chunks of the backlog that have a vector and no token vectors, with their texts."""
    join = connection.dialect.ordered_join
    rows = connection.execute(
        "SELECT c.id, substr(d.content, c.start + 1, c.stop - c.start)"
        f" FROM vectors v {join} chunks c ON c.id = v.chunk {join} drawers d ON d.id = c.drawer"
        " WHERE v.chunk <= ? AND NOT EXISTS (SELECT 1 FROM token_vectors t WHERE t.chunk = v.chunk)"
        " ORDER BY v.chunk DESC LIMIT ?",
        (backlog_end(connection), limit),
    )
    return [Chunk(*row) for row in rows]


def shorten_backlog(tx: Transaction, before: int, after: int) -> None:
    """Note that the chunks above `after` are done, unless the backlog no longer ends at `before`.

    No stamp is drawn: no content has changed.
    """
    tx.connection.execute("UPDATE token_backlog SET last = ? WHERE last = ?", (after, before))


def extend_backlog(tx: Transaction) -> None:
    """Put all chunks that have a vector into the backlog; those that have token vectors keep them."""
    tx.connection.execute("UPDATE token_backlog SET last = (SELECT coalesce(max(chunk), 0) FROM vectors)")


def forget_token_vectors(tx: Transaction) -> None:
    """Drop all of them; the chunks that have a vector are the backlog."""
    tx.connection.execute("DELETE FROM token_vectors")
    extend_backlog(tx)


def drop_token_vectors(tx: Transaction, limit: int) -> int:
    """Drop some of them; returns how many. To drop all of a large palace at once would keep the others waiting."""
    return tx.connection.execute(
        "DELETE FROM token_vectors WHERE chunk IN (SELECT chunk FROM token_vectors ORDER BY chunk LIMIT ?)", (limit,)
    ).rowcount


def are_there_token_vectors(connection: Connection) -> bool:
    """Has any chunk token vectors?"""
    return connection.execute("SELECT 1 FROM token_vectors LIMIT 1").fetchone() is not None


def count_faults(connection: Connection) -> int:
    """How many rows are of the wrong size or of no chunk with a vector. Reads the whole table."""
    faults = connection.execute(f"SELECT count(*) FROM token_vectors WHERE NOT ({_WHOLE} AND {_OWNED})")
    return int(faults.fetchone()[0])


def mend_token_vectors(tx: Transaction) -> int:
    """Drop the faulty rows and put chunks into the backlog that have a vector without them; returns how many were
    dropped."""
    connection = tx.connection
    dropped = connection.execute(f"DELETE FROM token_vectors WHERE NOT ({_WHOLE} AND {_OWNED})").rowcount
    (missing,) = connection.execute(
        "SELECT coalesce(max(v.chunk), 0) FROM vectors v"
        " WHERE NOT EXISTS (SELECT 1 FROM token_vectors t WHERE t.chunk = v.chunk)"
    ).fetchone()
    connection.execute("UPDATE token_backlog SET last = ? WHERE last < ?", (missing, missing))
    return dropped
