"""Makes the token vectors that chunks lack, in the background, and drops those that no model reads any more."""

from __future__ import annotations

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.token_vectors import (
    are_there_token_vectors,
    backlog_end,
    backlog_size,
    drop_token_vectors,
    latest_in_backlog,
    shorten_backlog,
    store_token_vectors,
)
from mempalace_mcp.storage.transactions import Transaction

BATCH = 32
"""Passages of one step: a new text waits for so many at most, a sixth of a second."""

DROPPED_AT_ONCE = 500


class TokenFiller:
    """Works off the backlog of token vectors, the latest chunks first. For one thread.

    Each step is committed, so a process that ends in between loses nothing. A chunk without token vectors is found all
    the same, and ranked as before there were any.
    """

    def __init__(self, stores: Stores, chunk_embedder: ChunkEmbedder) -> None:
        self._stores = stores
        self._chunk_embedder = chunk_embedder
        self._seen = self._left = 0

    def left(self, connection: Connection) -> int | None:
        """How many chunks are left, 0 if the palace's model gives none; None while it is not loaded."""
        embedder = self._stores.embedder
        if not embedder.ready:
            return None
        if not self._reads_tokens(connection, embedder.get()):
            return 0
        end = backlog_end(connection)
        if end != self._seen:
            self._seen, self._left = end, backlog_size(connection)
        return self._left

    def advance(self) -> int:
        """Make the next ones and commit them; returns how many chunks were done, 0 when none are left.

        Raises:
            EmbedderUnavailable: the model is not loaded.
            PalaceError: the write failed; the next call tries it again.
        """
        embedder = self._stores.embedder.get()
        with self._stores.reader.read() as connection:
            end = backlog_end(connection)
            if not end or not self._reads_tokens(connection, embedder):
                return 0
            chunks = latest_in_backlog(connection, BATCH)
        _, tokens = embedder.embed_with_tokens([chunk.text for chunk in chunks])
        rows = [(chunk.chunk, packed) for chunk, packed in zip(chunks, tokens, strict=True) if packed is not None]
        rest = chunks[-1].chunk - 1 if len(chunks) == BATCH else 0

        def work(tx: Transaction) -> None:
            self._chunk_embedder.check_model(tx.connection, embedder.stamp)
            store_token_vectors(tx, rows)
            shorten_backlog(tx, end, rest)

        self._stores.writer.write(work, Deadline())
        return max(len(chunks), 1)

    def drop(self) -> int:
        """Drop some if the palace has moved to a model that gives none; returns how many.

        Raises:
            PalaceError: the write failed; the next call tries it again.
        """
        background = self._stores.embedder
        embedder = background.get() if background.ready else None
        if embedder is None or embedder.gives_tokens:
            return 0
        with self._stores.reader.read() as connection:
            stamp = self._stores.drawers.model_stamp(connection)
            if stamp != embedder.stamp or not are_there_token_vectors(connection):
                return 0

        def work(tx: Transaction) -> int:
            self._chunk_embedder.check_model(tx.connection, embedder.stamp)
            return drop_token_vectors(tx, DROPPED_AT_ONCE)

        return self._stores.writer.write(work, Deadline())

    def _reads_tokens(self, connection: Connection, embedder: Embedder) -> bool:
        return embedder.gives_tokens and self._stores.drawers.model_stamp(connection) == embedder.stamp
