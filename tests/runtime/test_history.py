"""What the history tells, and how it is paged."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound
from mempalace_mcp.runtime.activity import Activity, SessionActivity, Transport, describe_history


def run(session: SessionActivity, tool: str, error: Exception | None = None) -> None:
    with suppress(Busy), session.call(tool, bytes_in=10) as call:
        call.bytes_out = 7
        if error is not None:
            raise error


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
        run(sessions[position % 2], tool, Busy("later") if tool == "f" else None)
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
        run(activity.sessions()[0], "new")
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
        run(session, tool)
    return later


def test_a_session_that_has_ended_is_not_found_and_stays_in_the_totals(activity: Activity) -> None:
    activity.sessions()[0].close()
    for number in (1, 77):
        with pytest.raises(NotFound, match=f"session {number} "):
            told(activity, session=number)
    page = told(activity)
    assert tools(page) == list("fdb")
    assert page["totals"]["tools"] == dict.fromkeys("abcdef", 1)
