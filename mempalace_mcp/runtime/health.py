"""How the process is doing, from memory alone: the answer to `GET /health` and the status tool."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from mempalace_mcp import __version__
from mempalace_mcp.runtime.activity import Activity, ActivityStatistics, Outcome, Transport
from mempalace_mcp.runtime.process import ProcessProbe

T = TypeVar("T")

TICK_SECONDS = 0.25
LAG_WINDOW_SECONDS = 60.0
SLOW_LOOP_SECONDS = 1.0
STUCK_LOOP_SECONDS = 10.0
LONG_EXECUTION_SECONDS = 60.0
_TICKS_PER_PROBE = 20


class Status(StrEnum):
    """`ok`; `degraded`: it serves, but somebody should look; `failing`: it cannot do its work."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Concern:
    """One reason not to be `ok`: its weight, a code from a closed set, and a sentence for people."""

    status: Status
    code: str
    message: str


Gauge = Callable[[], Any]
"""Returns the statistics dataclass of one component."""

Check = Callable[[], Concern | None]
"""Looks at one component's memory and says what is wrong with it, if anything."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Numbers of the process. Bytes and seconds; None where a gauge cannot be read or has nothing to say yet."""

    thread_count: int | None
    native_thread_count: int | None
    asyncio_task_count: int | None
    running_executions: int
    oldest_execution_seconds: float | None
    conversation_history_size: int
    conversation_history_total: int
    conversation_history_limit: int
    event_loop_lag_seconds: float | None
    event_loop_lag_max_seconds: float | None
    cpu_seconds: float | None
    rss_bytes: int | None
    allocated_blocks: int | None
    open_descriptors: int | None
    sessions: Mapping[Transport, int]
    sessions_opened: int
    calls: Mapping[Outcome, int]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One look at the process."""

    status: Status
    reasons: Sequence[Concern]
    version: str
    pid: int
    uptime_seconds: float
    diagnostics: Diagnostics
    components: Mapping[str, Any]


class LoopWatch:
    """Measures how late the event loop wakes a task that sleeps."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=int(LAG_WINDOW_SECONDS / TICK_SECONDS))
        self._due: float | None = None
        self.task_count: int | None = None

    async def tick(self) -> None:
        """Sleep once, and note by how much it was too long."""
        self._due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        self._lags.append(max(0.0, time.monotonic() - self._due))
        self.task_count = len(asyncio.all_tasks())

    def stop(self) -> None:
        """The loop is no longer watched, so it is not late either."""
        self._due = None

    @property
    def lag(self) -> float | None:
        """Seconds the loop is or was late, the present delay included."""
        overdue = 0.0 if self._due is None else time.monotonic() - self._due
        return max(self._lags[-1], overdue) if self._lags else None

    @property
    def largest_lag(self) -> float | None:
        """The largest lag of the last minute."""
        lag = self.lag
        return None if lag is None else max(lag, *tuple(self._lags))


class Health:
    """Composes the report. `watch` runs as a task of the event loop for as long as the process serves."""

    def __init__(
        self,
        activity: Activity,
        gauges: Sequence[tuple[str, Gauge]] = (),
        checks: Sequence[Check] = (),
    ) -> None:
        self._activity = activity
        self._gauges = gauges
        self._checks = checks
        self._loop = LoopWatch()
        self._process = ProcessProbe()
        self._started = time.monotonic()

    async def watch(self) -> None:
        """Measure the event loop and the process until cancelled."""
        self._loop.task_count = len(asyncio.all_tasks())
        try:
            while True:
                self._process.read()
                for _ in range(_TICKS_PER_PROBE):
                    await self._loop.tick()
        finally:
            self._loop.stop()

    def snapshot(self) -> HealthReport:
        """Read what is in memory; well under a millisecond, and no gauge that fails can break it."""
        activity = self._activity.statistics()
        reasons = [*self._own_concerns(activity), *filter(None, map(_examine, self._checks))]
        return HealthReport(
            status=_worst(reasons),
            reasons=reasons,
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            diagnostics=self._diagnostics(activity),
            components={name: _read(gauge) for name, gauge in self._gauges},
        )

    def _own_concerns(self, activity: ActivityStatistics) -> list[Concern]:
        concerns = []
        lag = self._loop.largest_lag
        if lag is not None and lag > SLOW_LOOP_SECONDS:
            status = Status.FAILING if (self._loop.lag or 0.0) > STUCK_LOOP_SECONDS else Status.DEGRADED
            concerns.append(Concern(status, "event_loop_slow", f"the event loop was {lag:.1f} s late"))
        oldest = activity.oldest_seconds
        if oldest and oldest > LONG_EXECUTION_SECONDS:
            concerns.append(Concern(Status.DEGRADED, "execution_long", f"a call has been running for {oldest:.0f} s"))
        return concerns

    def _diagnostics(self, activity: ActivityStatistics) -> Diagnostics:
        process = self._process.latest
        return Diagnostics(
            thread_count=_read(threading.active_count),
            native_thread_count=process.native_threads,
            asyncio_task_count=self._loop.task_count,
            running_executions=activity.running,
            oldest_execution_seconds=activity.oldest_seconds,
            conversation_history_size=activity.history_size,
            conversation_history_total=activity.history_total,
            conversation_history_limit=activity.history_limit,
            event_loop_lag_seconds=self._loop.lag,
            event_loop_lag_max_seconds=self._loop.largest_lag,
            cpu_seconds=_read(time.process_time),
            rss_bytes=process.rss_bytes,
            allocated_blocks=_read(sys.getallocatedblocks),
            open_descriptors=process.open_descriptors,
            sessions=activity.sessions,
            sessions_opened=activity.sessions_opened,
            calls=activity.calls,
        )


def _read(gauge: Callable[[], T]) -> T | None:
    try:
        return gauge()
    except Exception:  # noqa: BLE001 - a gauge of any component may fail in any way; the probe must answer
        return None


def _examine(check: Check) -> Concern | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - what cannot be examined is not well, and the probe must answer
        return Concern(Status.DEGRADED, "check_failed", f"a check failed: {type(error).__name__}")


def _worst(reasons: Sequence[Concern]) -> Status:
    found = {reason.status for reason in reasons}
    return next((status for status in (Status.FAILING, Status.DEGRADED) if status in found), Status.OK)
