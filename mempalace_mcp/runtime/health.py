"""The health of the process: checks, figures, and the reports for `/health`, `/metrics` and the `status` tool.

Everything here reads memory only, so a probe never waits for a disk, a lock or a thread.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mempalace_mcp import __version__
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.figures import figures_of
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.palace.model_advice import model_advice
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.activity import Activity, ActivityStatistics
from mempalace_mcp.runtime.event_loop import Heartbeat, LoopStatistics
from mempalace_mcp.runtime.executor import Executor, ExecutorStatistics
from mempalace_mcp.runtime.indexer import Indexer, IndexerStatistics
from mempalace_mcp.runtime.issues import Issue, Status
from mempalace_mcp.runtime.monitor import DiskStatistics, DiskWatch, ProcessProbe, ProcessStatistics
from mempalace_mcp.runtime.writer import WriterStatistics, WriterThread
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import DatabaseStatistics, PalaceDatabase, ServerStatistics
from mempalace_mcp.storage.model_moves import move_progress
from mempalace_mcp.storage.transactions import IdempotencyStatistics
from mempalace_mcp.storage.vectors.model import ChromaStatistics, IndexState
from mempalace_mcp.storage.vectors.protocol import PalaceVectors

T = TypeVar("T")


Diagnostics = Mapping[str, Any]
"""The published figures of all components by their keys; None where a figure is not known at the moment."""

_STATISTICS = (
    ProcessStatistics,
    LoopStatistics,
    ActivityStatistics,
    ExecutorStatistics,
    WriterStatistics,
    DatabaseStatistics,
    ServerStatistics,
    DiskStatistics,
    IndexerStatistics,
    ChromaStatistics,
    IdempotencyStatistics,
)
_FIELDS = tuple((kind, name, figure) for kind in _STATISTICS for name, figure in figures_of(kind))

FIGURES = tuple(figure for _, _, figure in _FIELDS)
"""Every figure of the diagnostics, in their order."""


def gather(statistics: Iterable[object]) -> Diagnostics:
    """The figures of these statistics; None for components that are not among them."""
    by_type = {type(each): each for each in statistics}
    return {figure.key: getattr(by_type.get(kind), name, None) for kind, name, figure in _FIELDS}


def read(gauge: Callable[[], T]) -> T | None:
    """The value of a gauge, or None if it cannot be read."""
    try:
        return gauge()
    except Exception:  # noqa: BLE001 - a gauge of any component may fail in any way; the probe must answer
        return None


SLOW_LOOP_SECONDS = 1.0
STUCK_LOOP_SECONDS = 10.0
LONG_EXECUTION_SECONDS = 60.0
_BEATS_PER_PROBE = 20

Gauge = Callable[[], Any]
"""Returns the statistics dataclass of one component."""

Check = Callable[[], Issue | None]
"""Reads the memory of one component; returns what is wrong with it, if anything."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One look at the process."""

    status: Status
    reasons: Sequence[Issue]
    version: str
    pid: int
    uptime_seconds: float
    diagnostics: Diagnostics
    components: Mapping[str, Any]

    @property
    def live(self) -> bool:
        """False if nothing but a restart would help."""
        return not any(issue.kind.restart_helps for issue in self.reasons)

    @property
    def ready(self) -> bool:
        """Can it take work now?"""
        return self.status is not Status.FAILING and not any(issue.kind.refuses for issue in self.reasons)


class Health:
    """Composes the report. `watch` runs as a task of the event loop for as long as the process serves."""

    def __init__(
        self,
        activity: Activity,
        gauges: Sequence[tuple[str, Gauge]] = (),
        checks: Sequence[Check] = (),
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._activity = activity
        self._gauges = gauges
        self._checks = checks
        self._heartbeat = heartbeat or Heartbeat()
        self._process = ProcessProbe()
        self._started = time.monotonic()

    async def watch(self) -> None:
        """Measure the event loop and the process until cancelled."""
        self._heartbeat.start()
        try:
            while True:
                self._process.read()
                for _ in range(_BEATS_PER_PROBE):
                    await self._heartbeat.beat()
        finally:
            self._heartbeat.stop()

    def add_check(self, check: Check) -> None:
        """Add a check, for example of a transport that opens after the health is composed."""
        self._checks = (*self._checks, check)

    def snapshot(self) -> HealthReport:
        """Read what is in memory; well under a millisecond, and no gauge that fails can break it."""
        process, loop = read(self._process.statistics), read(self._heartbeat.statistics)
        activity = read(self._activity.statistics)
        components = {name: read(gauge) for name, gauge in self._gauges}
        found = [*self._loop_issues(), *_call_issues(activity), *filter(None, map(_run, self._checks))]
        return HealthReport(
            status=_worst(found),
            reasons=found,
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            diagnostics=gather([process, loop, activity, *components.values()]),
            components=components,
        )

    def _loop_issues(self) -> list[Issue]:
        overdue, largest = self._heartbeat.overdue, self._heartbeat.largest_lag or 0.0
        if overdue > STUCK_LOOP_SECONDS:
            return [Issue(issues.EVENT_LOOP_STUCK, f"the event loop is {overdue:.1f} s late")]
        if largest > SLOW_LOOP_SECONDS:
            return [Issue(issues.EVENT_LOOP_SLOW, f"the event loop was {largest:.1f} s late")]
        return []


def _call_issues(activity: ActivityStatistics | None) -> list[Issue]:
    oldest = activity.oldest_seconds if activity else None
    if oldest is None or oldest <= LONG_EXECUTION_SECONDS:
        return []
    return [Issue(issues.EXECUTION_LONG, f"a call has been running for {oldest:.0f} s")]


def _run(check: Check) -> Issue | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check of any component may fail in any way; the probe must answer
        return Issue(issues.CHECK_FAILED, f"a check failed: {type(error).__name__}")


def _worst(found: Sequence[Issue]) -> Status:
    severities = {issue.status for issue in found}
    return next((status for status in (Status.FAILING, Status.DEGRADED) if status in severities), Status.OK)


_WRITE_REFUSALS = {
    "busy": issues.LOCK_HELD,
    "deadline_exceeded": issues.LOCK_HELD,
    "storage": issues.STORAGE,
    "storage_full": issues.STORAGE_FULL,
    "storage_read_only": issues.STORAGE_READ_ONLY,
    "palace_missing": issues.PALACE_MISSING,
    "palace_corrupt": issues.PALACE_CORRUPT,
    "schema_too_new": issues.SCHEMA_TOO_NEW,
}
"""The kind of issue by the code of the error with which storage refused the last write."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these, somebody should look."""

    write_seconds: float = 10.0
    look_seconds: float = 10.0
    log_bytes: int = 256 * 1024 * 1024
    free_bytes: int = 64 * 1024 * 1024
    indexer_failures: int = 3
    connection_share: float = 0.9
    transaction_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class CheckInputs:
    """The components of the process that are checked."""

    database: PalaceDatabase
    disk: DiskWatch
    writer: WriterThread
    executor: Executor
    embedder: BackgroundEmbedder
    indexer: Indexer
    index: PalaceVectors


def checks(inputs: CheckInputs, limits: Limits | None = None) -> Sequence[Check]:
    """All checks, bound to the components of the process."""
    limits = limits or Limits()
    return (
        partial(_check_server, inputs, limits),
        partial(_check_palace, inputs),
        partial(_check_last_write, inputs),
        partial(_check_writer, inputs, limits),
        partial(_check_disk, inputs, limits),
        partial(_check_write_ahead_log, inputs, limits),
        partial(_check_executor, inputs),
        partial(_check_embedder, inputs),
        partial(_check_indexer, inputs, limits),
        partial(_check_index, inputs),
    )


def _check_palace(inputs: CheckInputs) -> Issue | None:
    database, server = inputs.database.statistics(inputs.disk.files), inputs.database.server
    if not database.available:
        if server is not None and not server.reachable:  # `_check_server` says so
            return None
        what = "files were" if server is None else "schema was"
        return Issue(issues.PALACE_MISSING, f"the palace's {what} deleted or replaced")
    if database.damaged:
        return Issue(issues.PALACE_CORRUPT, "the database finds what it has stored damaged")
    if not database.writable:
        kind = issues.STORAGE_FULL if database.last_error == "storage_full" else issues.STORAGE_READ_ONLY
        return Issue(kind, "the palace is open for reading only")
    return None


def _check_server(inputs: CheckInputs, limits: Limits) -> Issue | None:
    server, silent = inputs.database.server, inputs.disk.statistics().look_seconds
    if server is None:
        return None
    if silent > limits.look_seconds:
        return Issue(issues.SERVER_UNREACHABLE, f"{server.address} has not answered for {silent:.0f} s")
    return next(server_issues(server, limits), None)


def server_issues(server: ServerStatistics, limits: Limits) -> Iterator[Issue]:
    """What is wrong with the server of the database, the worst first."""
    if not server.reachable:
        yield Issue(issues.SERVER_UNREACHABLE, server.failure or "the database's server does not answer")
    if server.unsafe:
        yield Issue(issues.SERVER_UNSAFE, f"{' and '.join(server.unsafe)} is off at {server.address}")
    if server.connection_limit and (server.connections or 0) >= limits.connection_share * server.connection_limit:
        message = f"{server.connections} of {server.connection_limit} connections of {server.address} are in use"
        yield Issue(issues.CONNECTIONS_LOW, message)
    if (server.oldest_transaction or 0) > limits.transaction_seconds:
        message = f"a transaction at {server.address} has been open for {server.oldest_transaction:.0f} s"
        yield Issue(issues.TRANSACTION_LONG, message)


def _check_last_write(inputs: CheckInputs) -> Issue | None:
    database = inputs.database.statistics(inputs.disk.files)
    kind = _WRITE_REFUSALS.get(database.last_error or "")
    reported = not database.available or database.damaged or not database.writable  # by `_check_palace`
    if kind is None or reported:
        return None
    return Issue(kind, f"storage refused the last write: {database.last_error}")


def _check_writer(inputs: CheckInputs, limits: Limits) -> Issue | None:
    writer = inputs.writer.statistics()
    if not writer.alive:
        return Issue(issues.WRITER_DEAD, "the writer thread has ended")
    if writer.waiting >= writer.waiting_limit:
        return Issue(issues.WRITER_FULL, "the queue of writes is full")
    if writer.oldest_waiting > limits.write_seconds:
        return Issue(issues.WRITER_WAITING, f"a write has been waiting for {writer.oldest_waiting:.0f} s")
    return None


def _check_disk(inputs: CheckInputs, limits: Limits) -> Issue | None:
    disk = inputs.disk.statistics()
    if disk.look_seconds > limits.look_seconds and inputs.database.server is None:
        return Issue(issues.DISK_SLOW, f"the file system has not answered for {disk.look_seconds:.0f} s")
    if disk.free_bytes is not None and disk.free_bytes < limits.free_bytes:
        return Issue(issues.DISK_LOW, f"{disk.free_bytes // 1024:,} KiB are left on the palace's disk")
    return None


def _check_write_ahead_log(inputs: CheckInputs, limits: Limits) -> Issue | None:
    size = inputs.disk.files.log_bytes or 0
    if size <= limits.log_bytes:
        return None
    message = f"the write-ahead log has {size // 1024:,} KiB and does not shrink; a reader stays open too long"
    return Issue(issues.LOG_LARGE, message)


def _check_executor(inputs: CheckInputs) -> Issue | None:
    executor = inputs.executor.statistics()
    if executor.waiting < executor.waiting_limit:
        return None
    return Issue(issues.EXECUTOR_FULL, "the queue of calls is full")


def _check_embedder(inputs: CheckInputs) -> Issue | None:
    failure = inputs.embedder.failure
    if failure is None:
        return None
    return Issue(issues.EMBEDDER_MISSING, f"search works by words only: {failure}")


def _check_indexer(inputs: CheckInputs, limits: Limits) -> Issue | None:
    indexer = inputs.indexer.statistics()
    if indexer.started and not indexer.alive:
        return Issue(issues.INDEXER_DEAD, "the thread that computes vectors has ended")
    if indexer.failures >= limits.indexer_failures:
        return Issue(issues.INDEXER_FAILING, f"vectors are late: {indexer.last_error}")
    return None


_INDEX_ISSUES = {
    IndexState.BUILDING: Issue(issues.INDEX_REBUILDING, "the index of vectors is being filled"),
    IndexState.FOREIGN: Issue(issues.INDEX_REBUILDING, "another program changed Chroma's files; they are rebuilt"),
    IndexState.FAILED: Issue(issues.INDEX_FAILING, "the index of vectors failed and will be tried again"),
}


def _check_index(inputs: CheckInputs) -> Issue | None:
    return _INDEX_ISSUES.get(inputs.index.statistics().state)


def describe(
    settings: Settings,
    stores: Stores,
    sizes: DatabaseStatistics,
    report: HealthReport,
    connection: Connection,
) -> dict[str, Any]:
    """JSON-safe."""
    palace: dict[str, Any] = {"path": settings.shown, "timezone": settings.zone.name}
    server = report.components.get("server")
    if isinstance(server, ServerStatistics):
        palace["server"] = {"postgresql": server.version, "pgvector": server.vector_version}
    return describe_process(settings, stores, report) | {
        "palace": palace | _palace_status(settings, stores, sizes, connection)
    }


def describe_process(settings: Settings, stores: Stores, report: HealthReport) -> dict[str, Any]:
    """What the process tells of itself, from memory alone; JSON-safe."""
    index = {"mode": settings.index, "embedder_ready": stores.embedder.ready}
    process = {"pid": report.pid, "uptime_seconds": round(report.uptime_seconds, 3)}
    return {
        "status": report.status.value,
        "reasons": [f"{issue.code}: {issue.message}. {issue.remedy}" for issue in report.reasons],
        "version": report.version,
        "index": index | dataclasses.asdict(stores.index.statistics()),
        "process": {**process, **report.diagnostics},
    }


def _palace_status(
    settings: Settings, stores: Stores, sizes: DatabaseStatistics, connection: Connection
) -> dict[str, Any]:
    rooms = stores.drawers.taxonomy(connection, None)
    graph = stores.graph.statistics(connection, stores.now())
    stamp, move = stores.drawers.model_stamp(connection), move_progress(connection)
    return {
        "drawers": sum(room.drawers for room in rooms),
        "wings": len({room.wing for room in rooms}),
        "rooms": len(rooms),
        "facts": graph.facts,
        "entities": graph.entities,
        "pending": stores.drawers.pending_count(connection),
        "model": None if stamp is None else f"{stamp.name} ({stamp.quantization})",
        "advice": model_advice(connection, settings.model),
        "moving": None if move is None else {"model": move.stamp.name, "done": move.done, "total": move.total},
        "database_bytes": sizes.database_bytes,
        "wal_bytes": sizes.log_bytes,
    }
