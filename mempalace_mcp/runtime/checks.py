"""What makes the health of a process less than `ok`, beside its event loop: each check looks at memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mempalace_mcp.runtime.health import Check, Concern, Status

if TYPE_CHECKING:
    from mempalace_mcp.runtime.app import App

LONG_WAIT_SECONDS = 10.0
LARGE_LOG_BYTES = 256 * 1024 * 1024
INDEXER_FAILURES = 3


def checks(app: App) -> Sequence[Check]:
    """All of them, bound to the process."""
    return tuple(partial(check, app) for check in (_writer, _storage, _write_ahead_log, _embedder, _indexer))


def _writer(app: App) -> Concern | None:
    writer = app.writer.statistics()
    if not writer.alive:
        return Concern(Status.FAILING, "writer_dead", "the writer thread has ended; restart the server")
    if writer.oldest_waiting > LONG_WAIT_SECONDS:
        message = f"a write has been waiting for {writer.oldest_waiting:.0f} s"
        return Concern(Status.DEGRADED, "writer_waiting", message)
    if writer.waiting >= writer.waiting_limit:
        return Concern(Status.DEGRADED, "writer_full", "the queue of writes is full")
    return None


def _storage(app: App) -> Concern | None:
    database = app.database.statistics()
    if not database.available:
        return Concern(Status.FAILING, "palace_missing", "the palace's files were deleted or replaced")
    failure = database.last_error
    if failure is None:
        return None
    status = Status.FAILING if failure in ("palace_missing", "palace_corrupt", "schema_too_new") else Status.DEGRADED
    return Concern(status, failure, f"the last write was refused by storage: {failure}")


def _write_ahead_log(app: App) -> Concern | None:
    size = app.database.statistics().log_bytes or 0
    if size <= LARGE_LOG_BYTES:
        return None
    return Concern(Status.DEGRADED, "log_large", "the write-ahead log does not shrink; some reader stays open for long")


def _embedder(app: App) -> Concern | None:
    failure = app.embedder.failure
    if failure is None:
        return None
    return Concern(Status.DEGRADED, "embedder_missing", f"search goes by words alone: {failure}")


def _indexer(app: App) -> Concern | None:
    indexer = app.indexer.statistics()
    if indexer.failures < INDEXER_FAILURES:
        return None
    return Concern(Status.DEGRADED, "indexer_failing", f"vectors are late: {indexer.last_error}")
