"""What the server has been asked, as it is told: calls newest first, their sessions, totals. Never contents."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from mempalace_mcp.core.clock import show
from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.runtime.activity import Activity, CallRecord, SessionActivity
from mempalace_mcp.storage.cursors import GREATEST, decode_cursor, encode_cursor

_MILLISECOND_DIGITS = 3

Entry = tuple[SessionActivity, CallRecord]


def describe_history(activity: Activity, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of the calls that are remembered, of one session or of all. JSON-safe.

    Raises:
        NotFound: the session is not remembered.
        InvalidArgument: the cursor is none of this process, or belongs to another session.
    """
    question = ("history", activity.began_at, session)
    (before,) = decode_cursor(cursor, question, (GREATEST,))
    sessions = _chosen(activity, session)
    page = list(islice(_newest_first(sessions, before), limit + 1))
    shown, more = page[:limit], page[limit:]
    statistics = activity.statistics()
    return {
        "calls": [_call(each, call) for each, call in shown],
        "count": len(shown),
        "total": sum(len(each.history) for each in sessions),
        "next_cursor": encode_cursor((shown[-1][1].number,), question) if more else None,
        "sessions": [_session(each) for each in dict.fromkeys(each for each, _ in shown)],
        "totals": {
            "sessions": statistics.sessions_opened,
            "outcomes": dict(statistics.calls),
            "tools": dict(statistics.tools),
        },
        "history_limit": statistics.history_limit,
    }


def _chosen(activity: Activity, number: int | None) -> Sequence[SessionActivity]:
    sessions = activity.sessions()
    if number is None:
        return sessions
    chosen = [session for session in sessions if session.number == number]
    if not chosen:
        raise NotFound(
            f"session {number} has ended, or never was",
            argument="session",
            hint="Leave session out to see the calls of every session that is remembered.",
        )
    return chosen


def _newest_first(sessions: Sequence[SessionActivity], before: int) -> Iterator[Entry]:
    return heapq.merge(*(_calls_before(before, session) for session in sessions), key=lambda entry: -entry[1].number)


def _calls_before(before: int, session: SessionActivity) -> Iterator[Entry]:
    return ((session, call) for call in reversed(session.history) if call.number < before)


def _call(session: SessionActivity, call: CallRecord) -> dict[str, Any]:
    return {
        "session": session.number,
        "tool": call.tool,
        "outcome": call.outcome.value,
        "began_at": show(call.began),
        "milliseconds": round(call.milliseconds, _MILLISECOND_DIGITS),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
    }


def _session(session: SessionActivity) -> dict[str, Any]:
    return {
        "session": session.number,
        "transport": session.transport.value,
        "client": session.client,
        "opened_at": show(session.opened),
        "outcomes": {outcome.value: count for outcome, count in session.outcomes.items()},
        "tools": session.tools.counts(),
    }
