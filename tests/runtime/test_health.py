from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass

from mempalace_mcp import __version__
from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.runtime.event_loop import Heartbeat
from mempalace_mcp.runtime.health import (
    LONG_EXECUTION_SECONDS,
    SLOW_LOOP_SECONDS,
    Check,
    Gauge,
    Health,
)
from mempalace_mcp.runtime.issues import REASONS, Issue, Status


@dataclass(frozen=True, slots=True)
class Level:
    """The statistics of some component."""

    depth: int


def broken() -> Level:
    raise OSError("the gauge fell off")


def health(*gauges: tuple[str, Gauge], checks: tuple[Check, ...] = (), heartbeat: Heartbeat | None = None) -> Health:
    return Health(Activity(history_limit=5), gauges, checks, heartbeat)


def test_a_quiet_process_is_ok() -> None:
    report = health(("writer", lambda: Level(3))).snapshot()
    assert (report.status, list(report.reasons)) == (Status.OK, [])
    assert (report.live, report.ready) == (True, True)
    assert (report.version, report.pid) == (__version__, os.getpid())
    assert report.components == {"writer": Level(3)}
    assert report.diagnostics["thread_count"] == threading.active_count()
    assert report.diagnostics["rss_bytes"]
    assert report.diagnostics["allocated_blocks"]
    assert report.diagnostics["open_descriptors"]
    assert report.diagnostics["event_loop_lag_seconds"] is None


def test_a_gauge_that_cannot_be_read_is_null() -> None:
    report = health(("broken", broken), ("writer", lambda: Level(1))).snapshot()
    assert report.status is Status.OK
    assert report.components == {"broken": None, "writer": Level(1)}
    assert report.diagnostics["writer_waiting"] is None


class Unreadable(Activity):
    def statistics(self) -> None:  # type: ignore[override]
        raise OSError("the gauge fell off")


def test_not_even_the_activity_can_break_the_probe() -> None:
    report = Health(Unreadable(history_limit=5)).snapshot()
    assert (report.status, report.diagnostics["running_executions"], report.diagnostics["calls"]) == (
        Status.OK,
        None,
        None,
    )


def test_the_worst_issue_decides() -> None:
    degraded = Issue(issues.DISK_LOW, "the disk is nearly full")
    failing = Issue(issues.WRITER_DEAD, "the writer thread has ended")
    assert health(checks=(lambda: degraded, lambda: None)).snapshot().status is Status.DEGRADED
    report = health(checks=(lambda: degraded, lambda: failing)).snapshot()
    assert (report.status, report.reasons) == (Status.FAILING, [degraded, failing])


def test_only_what_a_restart_mends_costs_life_and_only_what_refuses_costs_readiness() -> None:
    reports = {
        reason.code: health(checks=(lambda reason=reason: Issue(reason, "so it is"),)).snapshot()  # type: ignore[misc]
        for reason in REASONS
    }
    assert {code for code, report in reports.items() if not report.live} == {"writer_dead", "indexer_dead"}
    failing = {"palace_missing", "palace_corrupt", "schema_too_new", "writer_dead", "event_loop_stuck"}
    failing.add("server_unreachable")
    assert {code for code, report in reports.items() if report.status is Status.FAILING} == failing
    unready = {code for code, report in reports.items() if not report.ready}
    assert unready == failing | {"writer_full", "executor_full"}


def test_a_check_that_fails_is_an_issue_itself() -> None:
    def check() -> Issue | None:
        raise RuntimeError

    report = health(checks=(check,)).snapshot()
    assert (report.status, report.reasons[0].code) == (Status.DEGRADED, "check_failed")


def test_a_call_that_runs_too_long_degrades() -> None:
    activity = Activity(history_limit=5)
    watched = Health(activity)
    with activity.open(Transport.STDIO).call("slow", 0) as call:
        assert watched.snapshot().diagnostics["running_executions"] == 1
        call.started -= LONG_EXECUTION_SECONDS + 1
        assert [reason.code for reason in watched.snapshot().reasons] == ["execution_long"]
    assert watched.snapshot().status is Status.OK


async def test_a_loop_that_was_blocked_is_seen_until_its_lag_is_forgotten() -> None:
    watched = health(heartbeat=Heartbeat(tick=0.01, window=0.05))
    watching = asyncio.create_task(watched.watch())
    while watched.snapshot().diagnostics["event_loop_lag_seconds"] is None:
        await asyncio.sleep(0)
    time.sleep(SLOW_LOOP_SECONDS + 0.1)
    report = watched.snapshot()
    assert [reason.code for reason in report.reasons] == ["event_loop_slow"]
    assert report.diagnostics["event_loop_lag_max_seconds"] is not None
    assert report.diagnostics["event_loop_lag_max_seconds"] > SLOW_LOOP_SECONDS
    assert report.diagnostics["asyncio_task_count"]
    while watched.snapshot().status is not Status.OK:
        await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.wait([watching])
    assert watched.snapshot().diagnostics["asyncio_task_count"]


def test_a_snapshot_waits_for_nobody() -> None:
    """It is taken while the process is at work in another thread that holds no lock of ours."""
    activity = Activity(history_limit=5)
    watched = Health(activity)
    session = activity.open(Transport.STDIO)
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with session.call("slow", 0):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    diagnostics, threads = watched.snapshot().diagnostics, threading.active_count()
    leave.set()
    thread.join()
    assert (diagnostics["running_executions"], diagnostics["thread_count"]) == (1, threads)
