"""Gives chunks their vectors: after their drawer was acknowledged, never inside its transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import EmbedderUnavailable, ModelMismatch, ModelMoved
from mempalace_mcp.core.model import Chunk, DrawerFilter, ModelStamp, Priority
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.embedding.models import model_of
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.log import MOVE

Vector = NDArray[np.float32]
Claim = Callable[[Connection, int, Priority], list[Chunk]]
"""Gives chunks that nobody else embeds meanwhile."""

NEWEST = 16
"""So many of the newest pending chunks a search embeds itself, if no more are pending."""
FLOOD_SHARE = 4
"""So many chunks it embeds if more are pending: each takes 4 ms of a processor. The indexer is at work on the rest."""
_KEPT = 1024
"""Vectors that searches have computed and the indexer has not stored yet."""


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """The vector of a chunk, and its packed token vectors if the model gives any."""

    vector: Vector
    tokens: bytes | None


class ChunkEmbedder:
    """Embeds pending chunks and stores their vectors."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._computing = threading.Lock()
        self._kept: LruMap[tuple[ModelStamp, int], EmbeddedChunk] = LruMap(_KEPT)

    def embed_pending(self, limit: int, priority: Priority, deadline: Deadline, claim: Claim | None = None) -> int:
        """Embed up to `limit` pending chunks of a priority and commit their vectors; returns how many.

        With `claim` it is those that this process may embed; without it, those that have been waiting longest.

        Raises:
            EmbedderUnavailable: the model is not loaded, or the palace has moved to another.
            ModelMismatch: the palace holds vectors of a model that this version does not have.
            DeadlineExceeded: the embedder or the writer was not free in time.
        """
        embedder = self._stores.embedder.get()
        with self._stores.reader.read() as connection:
            self.check_model(connection, embedder.stamp)  # what is claimed and not embedded waits for a minute
            chunks = (claim or self._stores.drawers.pending)(connection, limit, priority)
        return self._store(chunks, embedder, deadline) if chunks else 0

    def embed_fresh(
        self, connection: Connection, filter: DrawerFilter, promising: Sequence[int], stamp: ModelStamp
    ) -> Mapping[int, EmbeddedChunk]:
        """The vectors of interactive chunks that are pending: the newest that the filter leaves, and `promising` ones.

        They are not stored, which is the indexer's work, but kept for it and for the next search. When many are
        pending, up to `FLOOD_SHARE` are computed: the newest, then promising ones in their order. None is, if the
        embedder is not of that model any more.

        Raises:
            EmbedderUnavailable: the model is not loaded.
        """
        embedder, drawers = self._stores.embedder.get(), self._stores.drawers
        pending = drawers.pending_counts(connection).interactive
        if not pending or embedder.stamp != stamp:
            return {}
        newest = drawers.newest_pending(connection, filter, NEWEST)
        others = drawers.pending_among(connection, promising)
        half = FLOOD_SHARE // 2
        wanted = {chunk.chunk: chunk.text for chunk in (*newest[:half], *others, *newest[half:])}
        with self._computing:  # searches that come together share the work
            found = self._embedded(embedder, wanted, NEWEST if pending <= NEWEST else FLOOD_SHARE)
            for chunk, embedded in found.items():
                self._kept.put((stamp, chunk), embedded)
        return found

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
        """Make every live chunk pending again; returns how many.

        The palace keeps its model, unless this version does not have it.
        """

        def work(tx: Transaction) -> int:
            stamp = self._stores.drawers.model_stamp(tx.connection)
            chunks = self._stores.drawers.forget_vectors(tx)
            if stamp is not None and model_of(stamp) is not None:
                self._stores.drawers.set_model_stamp(tx, stamp)
            return chunks

        return self._stores.writer.write(work, deadline)

    def _store(self, chunks: list[Chunk], embedder: Embedder, deadline: Deadline) -> int:
        embedded = self._embedded(embedder, {chunk.chunk: chunk.text for chunk in chunks}, len(chunks))
        at_once, drawers = self._stores.index.stored_at_once, self._stores.drawers

        def work(tx: Transaction, some: Sequence[tuple[int, EmbeddedChunk]]) -> int:
            self.check_model(tx.connection, embedder.stamp)
            if drawers.model_stamp(tx.connection) is None:
                drawers.set_model_stamp(tx, embedder.stamp)
            rows = [(chunk, each.vector.tobytes()) for chunk, each in some]
            packed = [(chunk, each.tokens) for chunk, each in some if each.tokens is not None]
            return drawers.store_vectors(tx, rows, packed)

        stored = 0
        for start in range(0, len(embedded), at_once):
            some = list(embedded.items())[start : start + at_once]
            stored += self._stores.writer.write(partial(work, some=some), deadline)
        return stored

    def _embedded(self, embedder: Embedder, texts: Mapping[int, str], most: int) -> dict[int, EmbeddedChunk]:
        """The chunks of these texts, by number, that a search has embedded; up to `most` others are embedded now."""
        kept = {chunk: self._kept.get((embedder.stamp, chunk)) for chunk in texts}
        found = {chunk: embedded for chunk, embedded in kept.items() if embedded is not None}
        missing = [chunk for chunk in texts if chunk not in found][:most]
        vectors, tokens = embedder.embed_with_tokens([texts[chunk] for chunk in missing])
        return found | dict(zip(missing, map(EmbeddedChunk, vectors, tokens), strict=True))


def _describe(stamp: ModelStamp) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} dimensions)"
