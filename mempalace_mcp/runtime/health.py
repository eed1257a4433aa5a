"""How the process is doing, from memory alone: what `/health`, `/livez`, `/readyz`, `/metrics` and `status` tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.runtime import reasons
from mempalace_mcp.runtime.activity import Activity, ActivityStatistics
from mempalace_mcp.runtime.diagnostics import Diagnostics, gather, read
from mempalace_mcp.runtime.loop import Heartbeat
from mempalace_mcp.runtime.process import ProcessProbe
from mempalace_mcp.runtime.reasons import Concern, Status

SLOW_LOOP_SECONDS = 1.0
STUCK_LOOP_SECONDS = 10.0
LONG_EXECUTION_SECONDS = 60.0
_BEATS_PER_PROBE = 20

Gauge = Callable[[], Any]
"""Returns the statistics dataclass of one component."""

Check = Callable[[], Concern | None]
"""Looks at one component's memory and says what is wrong with it, if anything."""


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
        activity = read(self._activity.statistics)
        components = {name: read(gauge) for name, gauge in self._gauges}
        concerns = [*self._loop_concerns(), *_call_concerns(activity), *filter(None, map(_examine, self._checks))]
        return HealthReport(
            status=_worst(concerns),
            reasons=concerns,
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            diagnostics=gather(activity, self._heartbeat, self._process.latest, components.values()),
            components=components,
        )

    def _loop_concerns(self) -> list[Concern]:
        overdue, largest = self._heartbeat.overdue, self._heartbeat.largest_lag or 0.0
        if overdue > STUCK_LOOP_SECONDS:
            return [Concern(reasons.EVENT_LOOP_STUCK, f"the event loop is {overdue:.1f} s late")]
        if largest > SLOW_LOOP_SECONDS:
            return [Concern(reasons.EVENT_LOOP_SLOW, f"the event loop was {largest:.1f} s late")]
        return []


def _call_concerns(activity: ActivityStatistics | None) -> list[Concern]:
    oldest = activity.oldest_seconds if activity else None
    if oldest is None or oldest <= LONG_EXECUTION_SECONDS:
        return []
    return [Concern(reasons.EXECUTION_LONG, f"a call has been running for {oldest:.0f} s")]


def _examine(check: Check) -> Concern | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - what cannot be examined is not well, and the probe must answer
        return Concern(reasons.CHECK_FAILED, f"a check failed: {type(error).__name__}")


def _worst(concerns: Sequence[Concern]) -> Status:
    found = {concern.status for concern in concerns}
    return next((status for status in (Status.FAILING, Status.DEGRADED) if status in found), Status.OK)
