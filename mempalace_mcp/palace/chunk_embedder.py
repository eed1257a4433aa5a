"""Gives chunks their vectors: after their drawer was acknowledged, never inside its transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import Busy, EmbedderUnavailable, ModelMismatch, ModelMoved
from mempalace_mcp.core.model import Chunk, ModelStamp, Priority
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.embedding.models import model_of
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection, DataVersion
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.log import MOVE

PENDING_AT_ONCE = 16
"""Pending chunks that a search embeds before it begins."""
FLOOD = 128
"""With more than `FLOOD * PENDING_AT_ONCE` chunks pending, a search embeds none and leaves them to the indexer.

So many an agent may have filed just before it searches. With a limit of 64 chunks in all, recall at 10 fell by a point
(LoCoMo, asked at once). Embedding 16 chunks adds 60 ms to each search for as long as some are pending.
"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A version of the palace's data, and the model of the embedder that looked at it."""

    version: DataVersion
    stamp: ModelStamp


class ChunkEmbedder:
    """Embeds pending chunks and stores their vectors."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._interactive = threading.Lock()
        self._nothing_pending: _Seen | None = None
        self._last_begun = self._last_ended = 0  # numbers of batches that searches embedded; ended ones succeeded

    def embed_pending(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        """Embed up to `limit` pending chunks of a priority and commit their vectors; returns how many.

        Raises:
            EmbedderUnavailable: the model is not loaded, or the palace has moved to another.
            ModelMismatch: the palace holds vectors of a model that this version does not have.
            DeadlineExceeded: the embedder or the writer was not free in time.
        """
        if priority is Priority.BULK:
            return self._embed(limit, priority, deadline)
        with self._exclusive(deadline):
            return self._embed(limit, priority, deadline)

    def embed_recent(self, limit: int, deadline: Deadline) -> int:
        """Embed up to `limit` pending interactive chunks; returns how many.

        Returns 0 when `FLOOD` times as many are pending. Concurrent callers share a batch: one that began after they
        called contains everything that was pending then.

        Raises:
            EmbedderUnavailable, ModelMismatch, DeadlineExceeded: as `embed_pending`.
        """
        if not 0 < self._recently_pending() <= FLOOD * limit:
            return 0
        last_begun = self._last_begun
        with self._exclusive(deadline):
            if self._last_ended > last_begun:
                return 0
            self._last_begun += 1
            embedded = self._embed(limit, Priority.INTERACTIVE, deadline)
            self._last_ended = self._last_begun
            return embedded

    def _recently_pending(self) -> int:
        """How many interactive chunks are pending; none is looked for until somebody commits after none was there."""
        stamp = self._stores.embedder.get().stamp
        seen = self._nothing_pending
        version = seen.version if seen is not None and seen.stamp == stamp else None
        try:
            found = self._stores.reader.read_if_changed(
                version, lambda connection: self._count_recent(connection, stamp)
            )
        except Busy:  # it does not wait, which a search can
            with self._stores.reader.read() as connection:
                return self._count_recent(connection, stamp)
        if found is None:
            return 0
        version, pending = found
        self._nothing_pending = None if pending else _Seen(version, stamp)
        return pending

    def _count_recent(self, connection: Connection, stamp: ModelStamp) -> int:
        self.check_model(connection, stamp)
        return self._stores.drawers.pending_counts(connection).interactive

    def check_model(self, connection: Connection, stamp: ModelStamp) -> None:
        """Return if the palace has vectors of this model only, or none.

        Raises:
            ModelMoved: it has moved to another model, which is being loaded now.
            ModelMismatch: it has vectors of a model that this version does not have.
        """
        stored = self._stores.drawers.model_stamp(connection)
        if stored is None or stored == stamp:
            return
        if model_of(stored) is None:
            raise ModelMismatch(
                f"the palace's vectors are of {_describe(stored)}, this program embeds with {_describe(stamp)}",
                hint=f"{MOVE} Search by words works meanwhile.",
            )
        self._stores.embedder.follow(stored)
        raise ModelMoved(
            f"the palace has moved to the model {stored.name}, which is being loaded",
            hint="Try again in a second; search by words works meanwhile.",
        )

    def follow(self, connection: Connection) -> None:
        """Begin to load the palace's model if another process has moved the palace to it."""
        with suppress(EmbedderUnavailable, ModelMismatch):
            self.check_model(connection, self._stores.embedder.get().stamp)

    def forget_vectors(self, deadline: Deadline) -> int:
        """Make every live chunk pending again and forget the model; returns how many."""
        return self._stores.writer.write(self._stores.drawers.forget_vectors, deadline)

    @contextmanager
    def _exclusive(self, deadline: Deadline) -> Iterator[None]:
        """Only one thread embeds interactive chunks at a time; it may hold the lock while it waits for the writer."""
        while not self._interactive.acquire(timeout=deadline.remaining):
            deadline.check("the embedder, which another call uses")
        try:
            yield
        finally:
            self._interactive.release()

    def _embed(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        embedder = self._stores.embedder.get()
        with self._stores.reader.read() as connection:
            chunks = self._stores.drawers.pending(connection, limit, priority)
            self.check_model(connection, embedder.stamp)
        return self._store(chunks, embedder, deadline) if chunks else 0

    def _store(self, chunks: list[Chunk], embedder: Embedder, deadline: Deadline) -> int:
        vectors, tokens = embedder.embed_with_tokens([chunk.text for chunk in chunks])
        rows = [(chunk.chunk, vector.tobytes()) for chunk, vector in zip(chunks, vectors, strict=True)]
        packed = [(chunk.chunk, each) for chunk, each in zip(chunks, tokens, strict=True) if each is not None]
        drawers = self._stores.drawers

        def work(tx: Transaction) -> int:
            self.check_model(tx.connection, embedder.stamp)
            if drawers.model_stamp(tx.connection) is None:
                drawers.set_model_stamp(tx, embedder.stamp)
            return drawers.store_vectors(tx, rows, packed)

        return self._stores.writer.write(work, deadline)


def _describe(stamp: ModelStamp) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} dimensions)"
