"""The indexer thread: computes vectors and tokens, moves vectors into Chroma, and prunes receipts and the trash."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from mempalace_mcp.core import clock, platform
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import EmbedderUnavailable, ModelMismatch, PalaceError
from mempalace_mcp.core.figures import gauge
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.core.model import Priority
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.model_mover import ModelMover
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.token_cache import TokenCacheFiller
from mempalace_mcp.palace.token_filler import TokenFiller
from mempalace_mcp.storage.model_moves import other_vectors
from mempalace_mcp.storage.transactions import prune
from mempalace_mcp.storage.turns import Task, Turns

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 30.0
INTERACTIVE_BATCH = 4
"""Small, since a search that embeds the rest waits for it."""
BULK_BATCH = 64
PURGE_BATCH = 500
INDEX_BATCH = 100
"""Rows moved into Chroma at once. A search that needs Chroma meanwhile waits for about a tenth of a second."""
LOOK_SECONDS = 2.0
"""How often the indexer looks for texts that other processes have filed."""
PURGE_SECONDS = 3600.0
PRUNE_BATCH = 1000
PRUNE_SECONDS = 60.0
"""How long receipts may exceed their bound."""
LONGEST_PAUSE = 60.0
NICENESS = 5


@dataclass(frozen=True, slots=True)
class IndexerStatistics:
    """Totals since the start, and the state now. `failures` counts since the last success.

    `started`: was the thread started? `pending` are the passages without a vector when it last looked, `pending_tokens`
    those that have one and no token vectors.
    """

    started: bool
    alive: bool
    pending: int | None = field(metadata=gauge("pending_embeddings", "Passages without a vector."))
    pending_tokens: int | None = field(
        metadata=gauge("pending_token_vectors", "Passages from an earlier version whose token vectors are to be made.")
    )
    embedded: int
    indexed: int
    purged: int
    pruned: int
    failures: int
    last_error: str | None
    seconds_busy: float


class Indexer:
    """Owns one thread from `start` to `close`. `turns` say what of the palace's work this process does."""

    def __init__(self, stores: Stores, chunk_embedder: ChunkEmbedder, turns: Turns, trash_age: Instant) -> None:
        self._stores = stores
        self._chunk_embedder = chunk_embedder
        self._token_cache = TokenCacheFiller(stores)
        self._mover = ModelMover(stores)
        self._token_filler = TokenFiller(stores, chunk_embedder)
        self._turns = turns
        self._trash_age = trash_age
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._is_idle = False
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
        self._pending: int | None = None
        self._moving = False
        self._pending_tokens: int | None = None
        self._embedded = 0
        self._indexed = 0
        self._purged = 0
        self._pruned = 0
        self._failures = 0
        self._last_error: str | None = None
        self._seconds_busy = 0.0
        self._next_purge = 0.0
        self._next_prune = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look for work now."""
        with self._idle:
            self._is_idle = False
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Was there no work when it last looked?"""
        return self._is_idle

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until nothing is left to embed or index; False if that takes longer than `timeout` seconds."""
        self.wake()
        with self._idle:
            return self._idle.wait_for(lambda: self._is_idle, timeout)

    def close(self) -> None:
        """Stop after the present batch."""
        self._stop.set()
        self._wake.set()
        if wait_for_end(self._thread, CLOSE_SECONDS):
            self._token_cache.close()
            self._mover.close()
            self._turns.close()

    def statistics(self) -> IndexerStatistics:
        """The figures now, read without a lock."""
        return IndexerStatistics(
            started=self._thread.ident is not None,
            alive=self._thread.is_alive(),
            pending=self._pending,
            pending_tokens=self._pending_tokens,
            embedded=self._embedded,
            indexed=self._indexed,
            purged=self._purged,
            pruned=self._pruned,
            failures=self._failures,
            last_error=self._last_error,
            seconds_busy=round(self._seconds_busy, 3),
        )

    def _run(self) -> None:
        _yield_to_others()
        while not self._stop.is_set():
            self._wake.clear()
            pause = self._guarded(self._step)
            if pause > 0:
                self._wake.wait(pause)

    def _guarded(self, step: Callable[[], float]) -> float:
        """Run the step and return its pause in seconds. After an error it is a growing one with jitter."""
        started = time.monotonic()
        try:
            pause = step()
        except EmbedderUnavailable:
            return 0.0 if self._stores.embedder.wait(LOOK_SECONDS) else LOOK_SECONDS
        except Exception as error:  # the thread must survive any error; it tries again, and the statistics show it
            self._failures += 1
            self._last_error = f"{type(error).__name__}: {error}"
            if not isinstance(error, PalaceError):
                logger.exception("the indexer failed and will try again")
            return min(LONGEST_PAUSE, 2.0 ** min(self._failures, 6)) * random.uniform(0.5, 1.0)
        self._seconds_busy += time.monotonic() - started
        self._failures = 0
        return pause

    def _step(self) -> float:
        """Do one piece of work, the most urgent first; the seconds to pause before the next.

        Nobody waits for the token vectors that an earlier version did not make: they come last, when it is idle.
        """
        self._look()
        if (
            self._prune()
            or self._embed(Priority.INTERACTIVE, INTERACTIVE_BATCH)
            or self._token_cache.advance()  # ahead of imports, whose vectors take far longer
            or self._embed(Priority.BULK, BULK_BATCH)
            or self._move()
            or self._purge()
        ):
            return 0.0
        if self._stores.index.rest > 0:
            return self._stores.index.rest
        moved = self._stores.index.advance(self._stores.reader.read, INDEX_BATCH)
        self._indexed += moved
        if moved:
            return self._stores.index.rest
        self._note_idle()
        if self._fill_tokens():
            return 0.0
        return LOOK_SECONDS

    def _look(self) -> None:
        """See what is to be embedded: what is pending, for token vectors, or for a move to another model."""
        with self._stores.reader.read() as connection:
            self._pending = self._stores.drawers.pending_count(connection)
            self._pending_tokens = self._token_filler.left(connection)
            self._moving = other_vectors(connection) is not None
            self._chunk_embedder.follow(connection)
        if not (self._pending or self._pending_tokens or self._moving):
            self._turns.release()

    def _embed(self, priority: Priority, batch: int) -> int:
        if not self._pending:
            return 0
        try:
            embedded = self._chunk_embedder.embed_pending(batch, priority, Deadline(), self._turns.claim)
        except ModelMismatch:
            if not self._moving:
                raise
            return 0  # what is pending waits for the new model
        self._embedded += embedded
        return embedded

    def _move(self) -> int:
        if self._moving and self._turns.lead(Task.MOVE):
            return self._mover.advance()
        self._mover.close()  # another process has gone on with it, or finished it
        return 0

    def _fill_tokens(self) -> int:
        if self._pending_tokens and self._turns.lead(Task.TOKENS):
            return self._token_filler.advance()
        return self._token_filler.drop() if self._turns.lead(Task.TIDY) else 0

    def _purge(self) -> int:
        if time.monotonic() < self._next_purge:
            return 0
        if not self._turns.lead(Task.TIDY):
            self._next_purge = time.monotonic() + PRUNE_SECONDS
            return 0
        oldest_kept = clock.now() - self._trash_age
        purged = self._stores.writer.write(
            lambda tx: self._stores.drawers.purge(tx, oldest_kept, PURGE_BATCH), Deadline()
        )
        self._purged += purged
        if not purged:
            self._next_purge = time.monotonic() + PURGE_SECONDS
        return purged

    def _prune(self) -> int:
        if time.monotonic() < self._next_prune:
            return 0
        self._next_prune = time.monotonic() + PRUNE_SECONDS
        if not self._turns.lead(Task.TIDY):
            return 0
        pruned = self._stores.writer.write(lambda tx: prune(tx, clock.now(), PRUNE_BATCH), Deadline())
        self._pruned += pruned
        if pruned == PRUNE_BATCH:
            self._next_prune = 0.0
        return pruned

    def _note_idle(self) -> None:
        if self._wake.is_set():
            return
        with self._idle:
            self._is_idle = True
            self._idle.notify_all()


def _yield_to_others() -> None:
    """Lower the priority of this thread below those that clients wait for. Only Linux has priorities of threads."""
    with suppress(OSError):
        platform.lower_thread_priority(NICENESS)
