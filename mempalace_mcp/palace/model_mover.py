"""Moves a palace to another embedding model while the vectors of the present one answer."""

from __future__ import annotations

import logging
from functools import partial

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import EmbedderBroken, StorageError
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.embedding.models import model_of
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage import model_moves

logger = logging.getLogger(__name__)

MOVED_AT_ONCE = 32
"""Passages of one step: a new text waits for so many at most, a third of a second."""
DROPPED_AT_ONCE = 500


class ModelMover:
    """Does a move step by step, and drops the vectors that no model answers with any more. For one thread.

    Only one process at a time uses it, and only while it moves does it load the other model. Each step is
    committed: a move that ends with its process goes on where it was.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._embedder: Embedder | None = None
        self._last = 0

    def advance(self) -> int:
        """Do the next step; returns on how many passages, 0 when there is nothing to do.

        Raises:
            StorageError: the other model cannot be loaded.
            PalaceError: the write failed; the next call tries it again.
        """
        with self._stores.reader.read() as connection:
            other = model_moves.other_vectors(connection)
        if other is None or not other.wanted:
            self.close()
            return 0 if other is None else self._drop()
        embedder = self._loaded(other.stamp)
        return 0 if embedder is None else self._embed(embedder) or self._switch(embedder)

    def close(self) -> None:
        """Free the memory of the other model."""
        embedder, self._embedder, self._last = self._embedder, None, 0
        if embedder is not None:
            self._stores.embedder.offer(None)
            embedder.close()

    def _loaded(self, stamp: ModelStamp) -> Embedder | None:
        """The embedder to move to; None if only a newer version of the program has it."""
        if self._embedder is None or self._embedder.stamp != stamp:
            self.close()
            model = model_of(stamp)
            try:
                self._embedder = None if model is None else model.load()
            except EmbedderBroken as error:  # the present model is well, and search does not suffer
                raise StorageError(f"the palace cannot move: {error.message}", hint=error.hint) from error
        return self._embedder

    def _drop(self) -> int:
        drop = model_moves.drop_other_vectors
        return self._stores.writer.write(lambda tx: drop(tx, DROPPED_AT_ONCE), Deadline())

    def _embed(self, embedder: Embedder) -> int:
        """Embed the next passages; 0 at the end of a round in which none was missing."""
        with self._stores.reader.read() as connection:
            chunks = model_moves.missing_chunks(connection, self._last, MOVED_AT_ONCE)
        if not chunks:
            complete, self._last = self._last == 0, 0
            return int(not complete)  # once more from the start, for those that were restored meanwhile
        vectors = embedder.embed([chunk.text for chunk in chunks])
        rows = [(chunk.chunk, vector.tobytes()) for chunk, vector in zip(chunks, vectors, strict=True)]
        at_once = self._stores.index.stored_at_once
        for start in range(0, len(rows), at_once):
            work = partial(model_moves.store_other_vectors, stamp=embedder.stamp, vectors=rows[start : start + at_once])
            self._stores.writer.write(work, Deadline())
        self._last = chunks[-1].chunk
        return len(chunks)

    def _switch(self, embedder: Embedder) -> int:
        """Let the new vectors answer; in this process they do so at once, since their model is loaded."""
        self._stores.embedder.offer(embedder)  # to the first search that sees them
        switched = self._stores.writer.write(lambda tx: model_moves.switch_model(tx, embedder.stamp), Deadline())
        if switched:
            self._embedder = None
            self._stores.embedder.follow(embedder.stamp)
            logger.info("the palace has moved to the model %s", embedder.stamp.name)
        return 1
