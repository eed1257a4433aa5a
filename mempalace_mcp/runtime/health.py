"""Health: every check, what counts as unwell, and the figures behind it.

Everything that can be wrong with a process that serves: a closed set of codes, each with its weight and remedy.

The figures of a process in one flat block, gathered from what its components tell.

How the process is doing, from memory alone: what `/health`, `/livez`, `/readyz`, `/metrics` and `status` tell.

What makes the health of a process less than `ok`, beside its event loop: each check looks at memory alone.

The answer to `status`: the palace's sizes, its index, and the health of the process, in one.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from mempalace_mcp import __version__
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.figures import figures_of
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.runtime.activity import Activity, ActivityStatistics
from mempalace_mcp.runtime.event_loop import Heartbeat, LoopStatistics
from mempalace_mcp.runtime.executor import Executor, ExecutorStatistics
from mempalace_mcp.runtime.indexer import Indexer, IndexerStatistics
from mempalace_mcp.runtime.monitor import DiskStatistics, DiskWatch, ProcessProbe, ProcessStatistics
from mempalace_mcp.runtime.writer import WriterStatistics, WriterThread
from mempalace_mcp.storage.sqlite.database import Database, DatabaseStatistics
from mempalace_mcp.storage.transactions import IdempotencyStatistics
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.model import ChromaState, VectorStatistics


class Status(StrEnum):
    """`ok`; `degraded`: it serves, but somebody should look; `failing`: it cannot do its work."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class HealthCode:
    """Why a process is not `ok`, and what a person can do about it.

    `restart_helps` makes `/livez` fail, so it is set only where nothing but a restart helps; `refuses` says that new
    calls are turned away for the moment.
    """

    code: str
    status: Status
    remedy: str
    restart_helps: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class HealthIssue:
    """A reason that holds now, and a sentence for people about it."""

    reason: HealthCode
    message: str

    @property
    def code(self) -> str:
        """The reason's code."""
        return self.reason.code

    @property
    def status(self) -> Status:
        """The reason's weight."""
        return self.reason.status


def _failing(code: str, remedy: str, *, restart_helps: bool = False) -> HealthCode:
    return HealthCode(code, Status.FAILING, remedy, restart_helps)


def _degraded(code: str, remedy: str, *, restart_helps: bool = False, refuses: bool = False) -> HealthCode:
    return HealthCode(code, Status.DEGRADED, remedy, restart_helps, refuses)


PALACE_MISSING = _failing("palace_missing", "Put the palace's files back and call `reconnect`, or restart the server.")
PALACE_CORRUPT = _failing("palace_corrupt", "Stop every server of this palace and restore a backup.")
SCHEMA_TOO_NEW = _failing("schema_too_new", "Upgrade mempalace-mcp and restart the servers of the old version.")
WRITER_DEAD = _failing("writer_dead", "Restart the server; nothing that was acknowledged is lost.", restart_helps=True)
EVENT_LOOP_STUCK = _failing("event_loop_stuck", "Look for the stacks in the log; restart the server if it stays.")

STORAGE = _degraded("storage", "Check the disk and the system log.")
STORAGE_FULL = _degraded("storage_full", "Free some space; the server goes on by itself.")
STORAGE_READ_ONLY = _degraded("storage_read_only", "Make the palace's directory and files writable for this user.")
DISK_LOW = _degraded("disk_low", "Free some space before writes have to be refused.")
DISK_SLOW = _degraded("disk_slow", "Look at the disk: the file system has not answered for a while.")
LOG_LARGE = _degraded(
    "log_large", "Find the process that reads for so long, and end it; then run `mempalace-mcp doctor --fix`."
)
LOCK_HELD = _degraded("lock_held", "Look at the process whose number is in `write.lock`.")
WRITER_WAITING = _degraded("writer_waiting", "Look at the process whose number is in `write.lock`.")
WRITER_FULL = _degraded("writer_full", "Let the clients slow down; they are told to try again.", refuses=True)
EXECUTOR_FULL = _degraded("executor_full", "Let the clients slow down; they are told to try again.", refuses=True)
EMBEDDER_MISSING = _degraded("embedder_missing", "Install mempalace-mcp again and restart; words are found meanwhile.")
INDEXER_DEAD = _degraded("indexer_dead", "Restart the server; words are found meanwhile.", restart_helps=True)
INDEXER_FAILING = _degraded("indexer_failing", "Read the log: it says what fails, and it is tried again.")
INDEX_REBUILDING = _degraded("index_rebuilding", "Nothing: searches are exact meanwhile, if slower.")
INDEX_FAILING = _degraded(
    "index_failing",
    "Read the log; searches are exact meanwhile. To begin anew: `mempalace-mcp daemon stop`, `mempalace-mcp reindex`.",
)
EVENT_LOOP_SLOW = _degraded("event_loop_slow", "See whether the machine is overloaded.")
EXECUTION_LONG = _degraded("execution_long", "See what it waits for: `kill -USR1` writes all stacks to the log.")
TOKENS_WRONG = _degraded("tokens_wrong", "Correct `tokens.toml`: the log names the line. The tokens before it count.")
CHECK_FAILED = _degraded("check_failed", "Report it, please: this is a fault of the program.")

REASONS = (
    PALACE_MISSING,
    PALACE_CORRUPT,
    SCHEMA_TOO_NEW,
    WRITER_DEAD,
    EVENT_LOOP_STUCK,
    STORAGE,
    STORAGE_FULL,
    STORAGE_READ_ONLY,
    DISK_LOW,
    DISK_SLOW,
    LOG_LARGE,
    LOCK_HELD,
    WRITER_WAITING,
    WRITER_FULL,
    EXECUTOR_FULL,
    EMBEDDER_MISSING,
    INDEXER_DEAD,
    INDEXER_FAILING,
    INDEX_REBUILDING,
    INDEX_FAILING,
    EVENT_LOOP_SLOW,
    EXECUTION_LONG,
    TOKENS_WRONG,
    CHECK_FAILED,
)
"""All of them: the labels of the metrics, and the rows of the table in docs/operations.md."""

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
    DiskStatistics,
    IndexerStatistics,
    VectorStatistics,
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

Check = Callable[[], HealthIssue | None]
"""Looks at one component's memory and says what is wrong with it, if anything."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One look at the process."""

    status: Status
    reasons: Sequence[HealthIssue]
    version: str
    pid: int
    uptime_seconds: float
    diagnostics: Diagnostics
    components: Mapping[str, Any]

    @property
    def live(self) -> bool:
        """False if nothing but a restart would help."""
        return not any(concern.reason.restart_helps for concern in self.reasons)

    @property
    def ready(self) -> bool:
        """Can it take work now?"""
        return self.status is not Status.FAILING and not any(concern.reason.refuses for concern in self.reasons)


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

    def examine_also(self, check: Check) -> None:
        """Let one more check take part: of a door, which is opened after all else."""
        self._checks = (*self._checks, check)

    def snapshot(self) -> HealthReport:
        """Read what is in memory; well under a millisecond, and no gauge that fails can break it."""
        process, loop = read(self._process.statistics), read(self._heartbeat.statistics)
        activity = read(self._activity.statistics)
        components = {name: read(gauge) for name, gauge in self._gauges}
        concerns = [*self._loop_concerns(), *_call_concerns(activity), *filter(None, map(_examine, self._checks))]
        return HealthReport(
            status=_worst(concerns),
            reasons=concerns,
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            diagnostics=gather([process, loop, activity, *components.values()]),
            components=components,
        )

    def _loop_concerns(self) -> list[HealthIssue]:
        overdue, largest = self._heartbeat.overdue, self._heartbeat.largest_lag or 0.0
        if overdue > STUCK_LOOP_SECONDS:
            return [HealthIssue(EVENT_LOOP_STUCK, f"the event loop is {overdue:.1f} s late")]
        if largest > SLOW_LOOP_SECONDS:
            return [HealthIssue(EVENT_LOOP_SLOW, f"the event loop was {largest:.1f} s late")]
        return []


def _call_concerns(activity: ActivityStatistics | None) -> list[HealthIssue]:
    oldest = activity.oldest_seconds if activity else None
    if oldest is None or oldest <= LONG_EXECUTION_SECONDS:
        return []
    return [HealthIssue(EXECUTION_LONG, f"a call has been running for {oldest:.0f} s")]


def _examine(check: Check) -> HealthIssue | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - what cannot be examined is not well, and the probe must answer
        return HealthIssue(CHECK_FAILED, f"a check failed: {type(error).__name__}")


def _worst(concerns: Sequence[HealthIssue]) -> Status:
    found = {concern.status for concern in concerns}
    return next((status for status in (Status.FAILING, Status.DEGRADED) if status in found), Status.OK)


_REFUSALS = {
    "busy": LOCK_HELD,
    "deadline_exceeded": LOCK_HELD,
    "storage": STORAGE,
    "storage_full": STORAGE_FULL,
    "storage_read_only": STORAGE_READ_ONLY,
    "palace_missing": PALACE_MISSING,
    "palace_corrupt": PALACE_CORRUPT,
    "schema_too_new": SCHEMA_TOO_NEW,
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


def _palace(process: Examined) -> HealthIssue | None:
    database = process.database.statistics(process.disk.files)
    if not database.available:
        return HealthIssue(PALACE_MISSING, "the palace's files were deleted or replaced")
    if database.damaged:
        return HealthIssue(PALACE_CORRUPT, "SQLite finds the palace's file damaged")
    if not database.writable:
        reason = STORAGE_FULL if database.last_error == "storage_full" else STORAGE_READ_ONLY
        return HealthIssue(reason, "the palace was opened only to be read")
    return None


def _refusal(process: Examined) -> HealthIssue | None:
    database = process.database.statistics(process.disk.files)
    reason = _REFUSALS.get(database.last_error or "")
    known = not database.available or database.damaged or not database.writable
    if reason is None or known:
        return None
    return HealthIssue(reason, f"storage refused the last write: {database.last_error}")


def _writer(process: Examined, limits: Limits) -> HealthIssue | None:
    writer = process.writer.statistics()
    if not writer.alive:
        return HealthIssue(WRITER_DEAD, "the writer thread has ended")
    if writer.waiting >= writer.waiting_limit:
        return HealthIssue(WRITER_FULL, "the queue of writes is full")
    if writer.oldest_waiting > limits.write_seconds:
        return HealthIssue(WRITER_WAITING, f"a write has been waiting for {writer.oldest_waiting:.0f} s")
    return None


def _disk(process: Examined, limits: Limits) -> HealthIssue | None:
    disk = process.disk.statistics()
    if disk.look_seconds > limits.look_seconds:
        return HealthIssue(DISK_SLOW, f"the file system has not answered for {disk.look_seconds:.0f} s")
    if disk.free_bytes is not None and disk.free_bytes < limits.free_bytes:
        return HealthIssue(DISK_LOW, f"{disk.free_bytes // 1024:,} KiB are left on the palace's disk")
    return None


def _write_ahead_log(process: Examined, limits: Limits) -> HealthIssue | None:
    size = process.disk.files.log_bytes or 0
    if size <= limits.log_bytes:
        return None
    message = f"the write-ahead log has {size // 1024:,} KiB and does not shrink; some reader stays open for long"
    return HealthIssue(LOG_LARGE, message)


def _executor(process: Examined) -> HealthIssue | None:
    executor = process.executor.statistics()
    if executor.waiting < executor.waiting_limit:
        return None
    return HealthIssue(EXECUTOR_FULL, "the line of calls before the executor is full")


def _embedder(process: Examined) -> HealthIssue | None:
    failure = process.embedder.failure
    if failure is None:
        return None
    return HealthIssue(EMBEDDER_MISSING, f"search goes by words alone: {failure}")


def _indexer(process: Examined, limits: Limits) -> HealthIssue | None:
    indexer = process.indexer.statistics()
    if indexer.started and not indexer.alive:
        return HealthIssue(INDEXER_DEAD, "the thread that computes vectors has ended")
    if indexer.failures >= limits.indexer_failures:
        return HealthIssue(INDEXER_FAILING, f"vectors are late: {indexer.last_error}")
    return None


def _index(process: Examined) -> HealthIssue | None:
    concerns: dict[ChromaState, tuple[HealthCode, str]] = {
        ChromaState.BUILDING: (INDEX_REBUILDING, "Chroma holds less than half of the vectors"),
        ChromaState.FOREIGN: (INDEX_REBUILDING, "somebody else changed Chroma's files; they are built anew"),
        ChromaState.FAILED: (INDEX_FAILING, "Chroma failed and will be tried again"),
    }
    found = concerns.get(process.index.statistics().chroma_state)
    return HealthIssue(*found) if found else None


def describe(
    settings: Settings,
    stores: Stores,
    sizes: DatabaseStatistics,
    report: HealthReport,
    connection: sqlite3.Connection,
) -> dict[str, Any]:
    """JSON-safe."""
    palace = {"path": str(settings.palace), "timezone": settings.zone.name}
    return describe_process(settings, stores, report) | {"palace": palace | _palace_status(stores, sizes, connection)}


def describe_process(settings: Settings, stores: Stores, report: HealthReport) -> dict[str, Any]:
    """What the process tells of itself, from memory alone; JSON-safe."""
    index = {"mode": settings.index, "embedder_ready": stores.embedder.ready}
    process = {"pid": report.pid, "uptime_seconds": round(report.uptime_seconds, 3)}
    return {
        "status": report.status.value,
        "reasons": [f"{concern.code}: {concern.message}. {concern.reason.remedy}" for concern in report.reasons],
        "version": report.version,
        "index": index | dataclasses.asdict(stores.index.statistics()),
        "process": {**process, **report.diagnostics},
    }


def _palace_status(stores: Stores, sizes: DatabaseStatistics, connection: sqlite3.Connection) -> dict[str, Any]:
    rooms = stores.drawers.taxonomy(connection, None)
    graph = stores.graph.statistics(connection, stores.now())
    stamp = stores.drawers.model_stamp(connection)
    return {
        "drawers": sum(room.drawers for room in rooms),
        "wings": len({room.wing for room in rooms}),
        "rooms": len(rooms),
        "facts": graph.facts,
        "entities": graph.entities,
        "pending": stores.drawers.pending_count(connection),
        "model": None if stamp is None else f"{stamp.name} ({stamp.quantization})",
        "database_bytes": sizes.database_bytes,
        "wal_bytes": sizes.log_bytes,
    }
