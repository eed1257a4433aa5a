"""What makes the health of a process less than `ok`, beside its event loop: each check looks at memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.runtime import reasons
from mempalace_mcp.runtime.disk import DiskWatch
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.health import Check
from mempalace_mcp.runtime.indexer import Indexer
from mempalace_mcp.runtime.reasons import Concern, Reason
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.database import Database
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.model import ChromaState

_REFUSALS = {
    "busy": reasons.LOCK_HELD,
    "deadline_exceeded": reasons.LOCK_HELD,
    "storage": reasons.STORAGE,
    "storage_full": reasons.STORAGE_FULL,
    "storage_read_only": reasons.STORAGE_READ_ONLY,
    "palace_missing": reasons.PALACE_MISSING,
    "palace_corrupt": reasons.PALACE_CORRUPT,
    "schema_too_new": reasons.SCHEMA_TOO_NEW,
}
"""What the code of the error says with which storage refused the last write."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these, somebody should look."""

    write_seconds: float = 10.0
    look_seconds: float = 10.0
    log_bytes: int = 256 * 1024 * 1024
    free_bytes: int = 64 * 1024 * 1024
    indexer_failures: int = 3


@dataclass(frozen=True, slots=True)
class Examined:
    """The components of the process that can be unwell."""

    database: Database
    disk: DiskWatch
    writer: WriterThread
    executor: Executor
    embedder: BackgroundEmbedder
    indexer: Indexer
    index: VectorIndex


def checks(process: Examined, limits: Limits | None = None) -> Sequence[Check]:
    """All of them, bound to the components of the process."""
    limits = limits or Limits()
    return (
        partial(_palace, process),
        partial(_refusal, process),
        partial(_writer, process, limits),
        partial(_disk, process, limits),
        partial(_write_ahead_log, process, limits),
        partial(_executor, process),
        partial(_embedder, process),
        partial(_indexer, process, limits),
        partial(_index, process),
    )


def _palace(process: Examined) -> Concern | None:
    database = process.database.statistics(process.disk.files)
    if not database.available:
        return Concern(reasons.PALACE_MISSING, "the palace's files were deleted or replaced")
    if database.damaged:
        return Concern(reasons.PALACE_CORRUPT, "SQLite finds the palace's file damaged")
    if not database.writable:
        reason = reasons.STORAGE_FULL if database.last_error == "storage_full" else reasons.STORAGE_READ_ONLY
        return Concern(reason, "the palace was opened only to be read")
    return None


def _refusal(process: Examined) -> Concern | None:
    database = process.database.statistics(process.disk.files)
    reason = _REFUSALS.get(database.last_error or "")
    known = not database.available or database.damaged or not database.writable
    if reason is None or known:
        return None
    return Concern(reason, f"storage refused the last write: {database.last_error}")


def _writer(process: Examined, limits: Limits) -> Concern | None:
    writer = process.writer.statistics()
    if not writer.alive:
        return Concern(reasons.WRITER_DEAD, "the writer thread has ended")
    if writer.waiting >= writer.waiting_limit:
        return Concern(reasons.WRITER_FULL, "the queue of writes is full")
    if writer.oldest_waiting > limits.write_seconds:
        return Concern(reasons.WRITER_WAITING, f"a write has been waiting for {writer.oldest_waiting:.0f} s")
    return None


def _disk(process: Examined, limits: Limits) -> Concern | None:
    disk = process.disk.statistics()
    if disk.look_seconds > limits.look_seconds:
        return Concern(reasons.DISK_SLOW, f"the file system has not answered for {disk.look_seconds:.0f} s")
    if disk.free_bytes is not None and disk.free_bytes < limits.free_bytes:
        return Concern(reasons.DISK_LOW, f"{disk.free_bytes // 1024:,} KiB are left on the palace's disk")
    return None


def _write_ahead_log(process: Examined, limits: Limits) -> Concern | None:
    size = process.disk.files.log_bytes or 0
    if size <= limits.log_bytes:
        return None
    message = f"the write-ahead log has {size // 1024:,} KiB and does not shrink; some reader stays open for long"
    return Concern(reasons.LOG_LARGE, message)


def _executor(process: Examined) -> Concern | None:
    executor = process.executor.statistics()
    if executor.waiting < executor.waiting_limit:
        return None
    return Concern(reasons.EXECUTOR_FULL, "the line of calls before the executor is full")


def _embedder(process: Examined) -> Concern | None:
    failure = process.embedder.failure
    if failure is None:
        return None
    return Concern(reasons.EMBEDDER_MISSING, f"search goes by words alone: {failure}")


def _indexer(process: Examined, limits: Limits) -> Concern | None:
    indexer = process.indexer.statistics()
    if indexer.started and not indexer.alive:
        return Concern(reasons.INDEXER_DEAD, "the thread that computes vectors has ended")
    if indexer.failures >= limits.indexer_failures:
        return Concern(reasons.INDEXER_FAILING, f"vectors are late: {indexer.last_error}")
    return None


def _index(process: Examined) -> Concern | None:
    concerns: dict[ChromaState, tuple[Reason, str]] = {
        ChromaState.BUILDING: (reasons.INDEX_REBUILDING, "Chroma holds less than half of the vectors"),
        ChromaState.FOREIGN: (reasons.INDEX_REBUILDING, "somebody else changed Chroma's files; they are built anew"),
        ChromaState.FAILED: (reasons.INDEX_FAILING, "Chroma failed and will be tried again"),
    }
    found = concerns.get(process.index.statistics().chroma_state)
    return Concern(*found) if found else None
