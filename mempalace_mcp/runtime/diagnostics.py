"""The figures of a process in one flat block, gathered from what its components tell."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mempalace_mcp.runtime.activity import ActivityStatistics, Outcome, Transport
from mempalace_mcp.runtime.disk import DiskStatistics
from mempalace_mcp.runtime.executor import ExecutorStatistics
from mempalace_mcp.runtime.indexer import IndexerStatistics
from mempalace_mcp.runtime.loop import Heartbeat
from mempalace_mcp.runtime.process import ProcessStatistics
from mempalace_mcp.runtime.writer import WriterStatistics
from mempalace_mcp.storage.receipts import ReceiptStatistics
from mempalace_mcp.storage.statistics import DatabaseStatistics
from mempalace_mcp.storage.vectors.model import Cause, VectorStatistics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Bytes, seconds and counts; None where a gauge cannot be read, is not there, or has nothing to say yet.

    Counts of things done are since the process began, the largest lag is that of the last minute.
    """

    thread_count: int | None
    native_thread_count: int | None
    asyncio_task_count: int | None
    running_executions: int | None
    oldest_execution_seconds: float | None
    conversation_history_size: int | None
    conversation_history_total: int | None
    conversation_history_limit: int | None
    event_loop_lag_seconds: float | None
    event_loop_lag_max_seconds: float | None
    cpu_seconds: float | None
    rss_bytes: int | None
    allocated_blocks: int | None
    open_descriptors: int | None
    sessions: Mapping[Transport, int] | None
    sessions_opened: int | None
    calls: Mapping[Outcome, int] | None
    bytes_received: int | None
    bytes_sent: int | None
    executor_running: int | None
    executor_waiting: int | None
    writer_waiting: int | None
    writer_oldest_seconds: float | None
    writer_wait_seconds: float | None
    writer_wait_max_seconds: float | None
    commits: int | None
    lock_retries: int | None
    lock_wait_seconds: float | None
    lock_wait_max_seconds: float | None
    database_bytes: int | None
    log_bytes: int | None
    disk_free_bytes: int | None
    pending_embeddings: int | None
    index_generation: int | None
    index_last_reopen: Cause | None
    foreign_writes: int | None
    receipts_recorded: int | None
    receipts_replayed: int | None


def gather(
    activity: ActivityStatistics | None, heartbeat: Heartbeat, process: ProcessStatistics, components: Iterable[Any]
) -> Diagnostics:
    """What each of them tells; None for what is not among the components."""
    told = list(components)
    writer, database = _of(WriterStatistics, told), _of(DatabaseStatistics, told)
    executor, disk = _of(ExecutorStatistics, told), _of(DiskStatistics, told)
    indexer, index = _of(IndexerStatistics, told), _of(VectorStatistics, told)
    receipts = _of(ReceiptStatistics, told)
    return Diagnostics(
        thread_count=read(threading.active_count),
        native_thread_count=process.native_threads,
        asyncio_task_count=heartbeat.task_count,
        running_executions=activity.running if activity else None,
        oldest_execution_seconds=activity.oldest_seconds if activity else None,
        conversation_history_size=activity.history_size if activity else None,
        conversation_history_total=activity.history_total if activity else None,
        conversation_history_limit=activity.history_limit if activity else None,
        event_loop_lag_seconds=heartbeat.lag,
        event_loop_lag_max_seconds=heartbeat.largest_lag,
        cpu_seconds=read(time.process_time),
        rss_bytes=process.rss_bytes,
        allocated_blocks=read(sys.getallocatedblocks),
        open_descriptors=process.open_descriptors,
        sessions=activity.sessions if activity else None,
        sessions_opened=activity.sessions_opened if activity else None,
        calls=activity.calls if activity else None,
        bytes_received=activity.bytes_in if activity else None,
        bytes_sent=activity.bytes_out if activity else None,
        executor_running=executor.running if executor else None,
        executor_waiting=executor.waiting if executor else None,
        writer_waiting=writer.waiting if writer else None,
        writer_oldest_seconds=writer.oldest_waiting if writer else None,
        writer_wait_seconds=writer.wait_total if writer else None,
        writer_wait_max_seconds=writer.wait_max if writer else None,
        commits=database.commits if database else None,
        lock_retries=database.retries if database else None,
        lock_wait_seconds=database.lock_wait_total if database else None,
        lock_wait_max_seconds=database.lock_wait_max if database else None,
        database_bytes=database.database_bytes if database else None,
        log_bytes=database.log_bytes if database else None,
        disk_free_bytes=disk.free_bytes if disk else None,
        pending_embeddings=indexer.pending if indexer else None,
        index_generation=index.generation if index else None,
        index_last_reopen=index.last_reopen if index else None,
        foreign_writes=index.foreign_writes if index else None,
        receipts_recorded=receipts.recorded if receipts else None,
        receipts_replayed=receipts.replayed if receipts else None,
    )


def read(gauge: Callable[[], T]) -> T | None:
    """What a gauge shows, or None if it cannot be read."""
    try:
        return gauge()
    except Exception:  # noqa: BLE001 - a gauge of any component may fail in any way; the probe must answer
        return None


def _of(kind: type[T], told: Iterable[Any]) -> T | None:
    return next((statistics for statistics in told if isinstance(statistics, kind)), None)
