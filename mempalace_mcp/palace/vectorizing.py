"""Giving chunks their vectors: after they were acknowledged, never inside a transaction, each model apart."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import ModelMismatch
from mempalace_mcp.core.model import Chunk, ModelStamp, Priority
from mempalace_mcp.embedding.embedder import Embedder
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.transaction import Transaction
from mempalace_mcp.storage.vectors.truth import REINDEX

FLOOD = 128
"""Times what a search embeds by itself: more than that is left to the indexer.

It is what an agent may have filed a moment before it asks: leaving more than 64 passages to the indexer cost a point of
recall at 10 (LoCoMo, asked at once), embedding 16 of them with each search costs others 60 ms for as long as it lasts.
"""


class Vectorizing:
    """Embeds what is pending and stores the vectors."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._interactive = threading.Lock()
        self._begun = self._ended = 0
        """Batches of searches, counted; the last one that ended well."""

    def embed_pending(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        """Embed up to `limit` pending chunks of that priority and commit their vectors; returns how many.

        Raises:
            EmbedderUnavailable: the model is not loaded.
            ModelMismatch: the palace holds vectors of another model.
            DeadlineExceeded: others were embedding or writing for all that time.
        """
        if priority is Priority.BULK:
            return self._embed(limit, priority, deadline)
        with self._turn(deadline):
            return self._embed(limit, priority, deadline)

    def embed_recent(self, most: int, deadline: Deadline) -> int:
        """Embed what agents filed a moment ago, as far as it goes with `most` chunks; returns how many.

        0 if there is so much that the caller would pay for a flood of somebody else's and still not see its end.
        Callers that come together share one batch: one that was begun after they came has what was there for them.

        Raises:
            EmbedderUnavailable, ModelMismatch, DeadlineExceeded: as `embed_pending`.
        """
        with self._stores.reader.read() as connection:
            self.check_model(connection, self._stores.embedder.get().stamp)
            waiting = self._stores.drawers.pending_counts(connection).interactive
        if not 0 < waiting <= FLOOD * most:
            return 0
        begun = self._begun
        with self._turn(deadline):
            if self._ended > begun:
                return 0
            self._begun += 1
            embedded = self._embed(most, Priority.INTERACTIVE, deadline)
            self._ended = self._begun
            return embedded

    def check_model(self, connection: sqlite3.Connection, stamp: ModelStamp) -> None:
        """Return if the palace's vectors are of this model, or there are none yet.

        Raises:
            ModelMismatch: they are of another.
        """
        stored = self._stores.drawers.model_stamp(connection)
        if stored is not None and stored != stamp:
            raise ModelMismatch(
                f"the palace's vectors are of {_describe(stored)}, this program embeds with {_describe(stamp)}",
                hint=f"{REINDEX} Search by words works meanwhile.",
            )

    @contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        """Embed what agents filed with nobody else doing it; whoever does may be waiting to write what came of it."""
        while not self._interactive.acquire(timeout=deadline.remaining):
            deadline.check("those who embed")
        try:
            yield
        finally:
            self._interactive.release()

    def forget_vectors(self, deadline: Deadline) -> int:
        """Make every live chunk pending again and forget the model; returns how many."""
        return self._stores.writer.write(self._stores.drawers.forget_vectors, deadline)

    def _embed(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        embedder = self._stores.embedder.get()
        with self._stores.reader.read() as connection:
            chunks = self._stores.drawers.pending(connection, limit, priority)
            self.check_model(connection, embedder.stamp)
        return self._store(chunks, embedder, deadline) if chunks else 0

    def _store(self, chunks: list[Chunk], embedder: Embedder, deadline: Deadline) -> int:
        vectors = embedder.embed([chunk.text for chunk in chunks])
        rows = [(chunk.chunk, vector.tobytes()) for chunk, vector in zip(chunks, vectors, strict=True)]
        drawers = self._stores.drawers

        def work(tx: Transaction) -> int:
            self.check_model(tx.connection, embedder.stamp)
            if drawers.model_stamp(tx.connection) is None:
                drawers.set_model_stamp(tx, embedder.stamp)
            return drawers.store_vectors(tx, rows)

        return self._stores.writer.write(work, deadline)


def _describe(stamp: ModelStamp) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} dimensions)"
