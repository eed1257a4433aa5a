"""Sessions, their calls, and the history of them."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

import pytest

from mempalace_mcp.core.errors import Busy, Cancelled, InvalidArgument, NotFound
from mempalace_mcp.runtime.activity import TOOL_LIMIT, Activity, Outcome, SessionActivity, Transport, describe_history


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


def told(activity: Activity, session: int | None = None, limit: int = 20, cursor: str | None = None) -> dict[str, Any]:
    page = describe_history(activity, session=session, limit=limit, cursor=cursor)
    assert json.loads(json.dumps(page)) == page
    return page


def tools(page: dict[str, Any]) -> list[str]:
    return [call["tool"] for call in page["calls"]]


@pytest.fixture
def activity() -> Activity:
    """Two sessions, whose calls a to f took turns."""
    activity = Activity(history_limit=10)
    sessions = [activity.open(Transport.STDIO), activity.open(Transport.SSE)]
    sessions[0].introduce("claude-code")
    for position, tool in enumerate("abcdef"):
        run(sessions[position % 2], Busy("later") if tool == "f" else None, tool)
    return activity


def test_tells_calls_newest_first_with_their_sessions_and_totals(activity: Activity) -> None:
    page = told(activity)
    assert tools(page) == list("fedcba")
    newest = page["calls"][0]
    assert newest.keys() == {"session", "tool", "outcome", "began_at", "milliseconds", "bytes_in", "bytes_out"}
    assert (newest["session"], newest["outcome"], newest["bytes_in"], newest["bytes_out"]) == (2, "refused", 10, 7)
    assert (page["count"], page["total"], page["next_cursor"], page["history_limit"]) == (6, 6, None, 10)
    second, first = page["sessions"]
    assert (first["session"], first["transport"], first["client"]) == (1, "stdio", "claude-code")
    assert (second["session"], second["transport"], second["client"]) == (2, "sse", None)
    assert second["outcomes"] == {"ok": 2, "refused": 1, "error": 0, "cancelled": 0}
    assert second["tools"] == {"b": 1, "d": 1, "f": 1}
    assert page["totals"]["outcomes"] == {"ok": 5, "refused": 1, "error": 0, "cancelled": 0}
    assert page["totals"]["tools"] == dict.fromkeys("abcdef", 1)
    assert page["totals"]["sessions"] == 2


def test_pages_follow_each_other_while_calls_come_and_are_forgotten(activity: Activity) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = told(activity, limit=2, cursor=cursor)
        seen += tools(page)
        cursor = page["next_cursor"]
        if cursor is None:
            break
        run(activity.sessions()[0], tool="new")
    assert seen == list("fedcba")
    half = told(activity, limit=4)
    activity.history_limit = 1
    rest = told(activity, limit=4, cursor=half["next_cursor"])
    assert (rest["calls"], rest["sessions"], rest["next_cursor"]) == ([], [], None)


def test_one_session_alone(activity: Activity) -> None:
    page = told(activity, session=1, limit=2)
    assert (tools(page), page["total"]) == (["e", "c"], 3)
    assert [session["session"] for session in page["sessions"]] == [1]
    assert tools(told(activity, session=1, cursor=page["next_cursor"])) == ["a"]


def test_what_is_no_cursor_of_this_listing_is_refused(activity: Activity) -> None:
    of_one = told(activity, session=1, limit=1)["next_cursor"]
    of_another_process = told(_later_than(activity), limit=1)["next_cursor"]
    for cursor in ("", "nonsense", "x" * 10_000, of_one, of_another_process):
        with pytest.raises(InvalidArgument) as caught:
            told(activity, cursor=cursor)
        assert caught.value.argument == "cursor"
        assert caught.value.hint


def _later_than(activity: Activity) -> Activity:
    later = Activity(history_limit=10)
    while later.began_at == activity.began_at:
        later = Activity(history_limit=10)
    session = later.open(Transport.STDIO)
    for tool in "abc":
        run(session, tool=tool)
    return later


def test_a_session_that_has_ended_is_not_found_and_stays_in_the_totals(activity: Activity) -> None:
    activity.sessions()[0].close()
    for number in (1, 77):
        with pytest.raises(NotFound, match=f"session {number} "):
            told(activity, session=number)
    page = told(activity)
    assert tools(page) == list("fdb")
    assert page["totals"]["tools"] == dict.fromkeys("abcdef", 1)
