"""What makes the health of a process less than `ok`, beside its event loop: each check looks at memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.runtime.health import Check, Concern, Status
from mempalace_mcp.runtime.indexer import Indexer
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.database import Database

LONG_WAIT_SECONDS = 10.0
LARGE_LOG_BYTES = 256 * 1024 * 1024
INDEXER_FAILURES = 3


def checks(writer: WriterThread, database: Database, embedder: BackgroundEmbedder, indexer: Indexer) -> Sequence[Check]:
    """All of them, bound to the components of the process."""
    return (
        partial(_writer, writer),
        partial(_storage, database),
        partial(_write_ahead_log, database),
        partial(_embedder, embedder),
        partial(_indexer, indexer),
    )


def _writer(thread: WriterThread) -> Concern | None:
    writer = thread.statistics()
    if not writer.alive:
        return Concern(Status.FAILING, "writer_dead", "the writer thread has ended; restart the server")
    if writer.oldest_waiting > LONG_WAIT_SECONDS:
        message = f"a write has been waiting for {writer.oldest_waiting:.0f} s"
        return Concern(Status.DEGRADED, "writer_waiting", message)
    if writer.waiting >= writer.waiting_limit:
        return Concern(Status.DEGRADED, "writer_full", "the queue of writes is full")
    return None


def _storage(truth: Database) -> Concern | None:
    database = truth.statistics()
    if not database.available:
        return Concern(Status.FAILING, "palace_missing", "the palace's files were deleted or replaced")
    failure = database.last_error
    if failure is None:
        return None
    status = Status.FAILING if failure in ("palace_missing", "palace_corrupt", "schema_too_new") else Status.DEGRADED
    return Concern(status, failure, f"the last write was refused by storage: {failure}")


def _write_ahead_log(truth: Database) -> Concern | None:
    size = truth.statistics().log_bytes or 0
    if size <= LARGE_LOG_BYTES:
        return None
    return Concern(Status.DEGRADED, "log_large", "the write-ahead log does not shrink; some reader stays open for long")


def _embedder(embedder: BackgroundEmbedder) -> Concern | None:
    failure = embedder.failure
    if failure is None:
        return None
    return Concern(Status.DEGRADED, "embedder_missing", f"search goes by words alone: {failure}")


def _indexer(thread: Indexer) -> Concern | None:
    indexer = thread.statistics()
    if indexer.failures < INDEXER_FAILURES:
        return None
    return Concern(Status.DEGRADED, "indexer_failing", f"vectors are late: {indexer.last_error}")
