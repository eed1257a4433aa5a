from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from mempalace_mcp.core.errors import Busy, Cancelled, InvalidArgument
from mempalace_mcp.runtime.activity import TOOL_LIMIT, Activity, Outcome, SessionActivity, Transport


def run(session: SessionActivity, error: BaseException | None = None, tool: str = "echo") -> None:
    """One call that ends with the error, if there is one."""
    with suppress(*(() if error is None else (type(error),))), session.call(tool, bytes_in=10) as call:
        call.bytes_out = 7
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.OK),
        (InvalidArgument("no"), Outcome.REFUSED),
        (Busy("later"), Outcome.REFUSED),
        (Cancelled("gone"), Outcome.CANCELLED),
        (asyncio.CancelledError(), Outcome.CANCELLED),
        (ZeroDivisionError(), Outcome.ERROR),
    ],
)
def test_exceptions_decide_the_outcome(error: BaseException | None, outcome: Outcome) -> None:
    activity = Activity(history_limit=10)
    session = activity.open(Transport.STDIO)
    run(session, error)
    [record] = session.history
    assert (record.tool, record.outcome, record.bytes_in, record.bytes_out) == ("echo", outcome, 10, 7)
    assert record.milliseconds >= 0
    statistics = activity.statistics()
    assert statistics.calls == {**dict.fromkeys(Outcome, 0), outcome: 1}
    assert (statistics.bytes_in, statistics.bytes_out, statistics.running) == (10, 7, 0)


def test_the_oldest_call_forgets_itself_beyond_the_limit() -> None:
    activity = Activity(history_limit=3)
    session = activity.open(Transport.SSE)
    for number in range(5):
        run(session, tool=f"tool {number}")
    assert [record.tool for record in session.history] == ["tool 2", "tool 3", "tool 4"]
    statistics = activity.statistics()
    assert (statistics.history_size, statistics.history_limit, statistics.calls[Outcome.OK]) == (3, 3, 5)


def test_lowering_the_limit_trims_every_session_at_once_and_keeps_its_counts() -> None:
    activity = Activity(history_limit=5)
    sessions = [activity.open(Transport.STDIO), activity.open(Transport.SSE)]
    for session in sessions:
        for number in range(4):
            run(session, tool=f"tool {number}")
        run(session, Busy("later"), tool="tool 0")
    activity.history_limit = 2
    assert [len(session.history) for session in sessions] == [2, 2]
    assert activity.statistics().history_size == activity.statistics().history_limit == 2
    assert sessions[0].outcomes == {**dict.fromkeys(Outcome, 0), Outcome.OK: 4, Outcome.REFUSED: 1}
    assert sessions[0].tools.counts() == {"tool 0": 2, "tool 1": 1, "tool 2": 1, "tool 3": 1}
    run(sessions[1], tool="last")
    assert [record.tool for record in sessions[1].history] == ["tool 0", "last"]


def test_a_session_that_was_pushed_out_holds_no_records_and_comes_back_with_its_next_call() -> None:
    activity = Activity(history_limit=3, session_limit=1)
    first = activity.open(Transport.SSE)
    run(first, tool="early")
    second = activity.open(Transport.SSE)
    assert not len(first.history)
    activity.history_limit = 1
    run(first, tool="late")
    run(first, tool="later")
    assert activity.sessions() == [first]
    assert [record.tool for record in first.history] == ["later"]
    assert first.tools.counts() == {"early": 1, "late": 1, "later": 1}
    assert activity.statistics().tools == {"early": 1, "late": 1, "later": 1}
    second.close()
    assert activity.sessions() == [first]


def test_a_call_that_outlives_its_session_is_counted_and_brings_nothing_back() -> None:
    activity = Activity(history_limit=3)
    session = activity.open(Transport.SSE)
    with session.call("slow", 0):
        session.close()
        session.close()
    statistics = activity.statistics()
    assert activity.sessions() == []
    assert (len(session.history), statistics.sessions[Transport.SSE], statistics.calls[Outcome.OK]) == (0, 0, 1)


def test_names_of_tools_without_end_are_counted_together() -> None:
    activity = Activity(history_limit=3)
    session = activity.open(Transport.SOCKET)
    for number in range(TOOL_LIMIT + 10):
        run(session, tool=f"prefix{number}_search")
    for tools in (activity.statistics().tools, session.tools.counts()):
        assert len(tools) == TOOL_LIMIT + 1
        assert tools["other"] == 10


@pytest.mark.parametrize(
    ("said", "kept"),
    [("claude-code", "claude-code"), ("x" * 500, "x" * 64), ("a\x00b\n", "ab"), ("", None), (7, None), (None, None)],
)
def test_a_client_is_known_by_a_short_name_that_can_be_shown(said: object, kept: str | None) -> None:
    session = Activity(history_limit=3).open(Transport.STDIO)
    session.introduce(said)
    assert session.client == kept


def test_running_calls_are_counted_and_the_oldest_is_known() -> None:
    activity = Activity(history_limit=3)
    session = activity.open(Transport.HTTP)
    assert activity.statistics().oldest_seconds is None
    with session.call("first", 0) as first, session.call("second", 0):
        statistics = activity.statistics()
        assert statistics.running == 2
        first.started -= 100
        oldest = activity.statistics().oldest_seconds
        assert oldest is not None
        assert oldest >= 100
    assert activity.statistics().running == 0


def test_a_closed_session_stays_in_the_totals_alone() -> None:
    activity = Activity(history_limit=3)
    kept, closed = activity.open(Transport.STDIO), activity.open(Transport.SSE)
    run(kept)
    run(closed)
    closed.close()
    statistics = activity.statistics()
    assert activity.sessions() == [kept]
    assert statistics.sessions == {**dict.fromkeys(Transport, 0), Transport.STDIO: 1}
    assert (statistics.sessions_opened, statistics.history_total, statistics.calls[Outcome.OK]) == (2, 1, 2)


def test_the_session_silent_for_longest_is_forgotten_first() -> None:
    activity = Activity(history_limit=3, session_limit=2)
    first, second = activity.open(Transport.SSE), activity.open(Transport.SSE)
    run(first)
    third = activity.open(Transport.SSE)
    assert activity.sessions() == [first, third]
    run(second)
    statistics = activity.statistics()
    assert (statistics.sessions[Transport.SSE], statistics.sessions_remembered) == (3, 2)
    assert statistics.calls[Outcome.OK] == 2
    second.close()
    assert activity.statistics().sessions[Transport.SSE] == 2


def test_many_threads_lose_no_call() -> None:
    activity = Activity(history_limit=10, session_limit=4)

    def work() -> None:
        for _ in range(50):
            session = activity.open(Transport.SOCKET)
            run(session)
            run(session, InvalidArgument("no"))
            session.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = activity.statistics()
    assert (statistics.calls[Outcome.OK], statistics.calls[Outcome.REFUSED]) == (400, 400)
    assert (statistics.running, statistics.sessions_remembered, statistics.sessions[Transport.SOCKET]) == (0, 0, 0)
