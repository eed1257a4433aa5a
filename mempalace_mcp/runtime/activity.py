"""The activity of sessions: calls in flight, a bounded history of each session, and totals. Never contents."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from mempalace_mcp.core.bounded import BoundedCounts, BoundedLog, LruMap
from mempalace_mcp.core.clock import Instant, format_instant, now
from mempalace_mcp.core.errors import Cancelled, NotFound, PalaceError
from mempalace_mcp.core.figures import counter, gauge
from mempalace_mcp.storage.queries import GREATEST, decode_cursor, encode_cursor

SESSION_LIMIT = 256
"""Sessions whose history is kept. Beyond that the least recently active one is dropped; the totals keep its calls."""

TOOL_LIMIT = 256
"""Tool names that are counted separately: each session may have a prefix of its own."""

CLIENT_CHARACTERS = 64


class Transport(StrEnum):
    """The transport of a session."""

    STDIO = "stdio"
    SSE = "sse"
    HTTP = "http"
    SOCKET = "socket"


class Outcome(StrEnum):
    """How a call ended. Exceptions alone decide: a call that returned is `ok`, even with an empty result."""

    OK = "ok"
    REFUSED = "refused"
    ERROR = "error"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call that has ended: start, duration, bytes received and sent.

    `number` counts the calls of the process in the order of their end.
    """

    number: int
    tool: str
    outcome: Outcome
    began: Instant
    milliseconds: float
    bytes_in: int
    bytes_out: int


@dataclass(slots=True)
class RunningCall:
    """A call in flight; its runner sets `bytes_out`."""

    tool: str
    bytes_in: int
    began: Instant
    started: float
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class ActivityStatistics:
    """Calls and sessions since the process started.

    `history_size` is that of the session with the longest history, `history_total` the sum of all sessions.
    `oldest_seconds` is None while no call runs.
    """

    calls: Mapping[Outcome, int] = field(metadata=counter("calls", "Calls that ended.", label="outcome"))
    tools: Mapping[str, int]
    running: int = field(metadata=gauge("running_executions", "Calls in flight.", metric="mempalace_calls_running"))
    oldest_seconds: float | None = field(
        metadata=gauge(
            "oldest_execution_seconds", "Age of the oldest call in flight.", metric="mempalace_call_oldest_seconds"
        )
    )
    sessions: Mapping[Transport, int] = field(metadata=gauge("sessions", "Open sessions.", label="transport"))
    sessions_opened: int = field(metadata=counter("sessions_opened", "Sessions opened."))
    sessions_remembered: int
    history_size: int = field(
        metadata=gauge(
            "conversation_history_size", "Calls remembered of the busiest session.", metric="mempalace_history_size"
        )
    )
    history_total: int = field(
        metadata=gauge(
            "conversation_history_total", "Calls remembered of all sessions.", metric="mempalace_history_remembered"
        )
    )
    history_limit: int = field(
        metadata=gauge(
            "conversation_history_limit", "Calls remembered of a session at most.", metric="mempalace_history_limit"
        )
    )
    bytes_in: int = field(
        metadata=counter("bytes_received", "Bytes of calls.", metric="mempalace_received_bytes_total")
    )
    bytes_out: int = field(metadata=counter("bytes_sent", "Bytes of answers.", metric="mempalace_sent_bytes_total"))


class SessionActivity:
    """The calls of one session; `with session.call(...)` records one. Counts stay when records are dropped."""

    def __init__(self, number: int, transport: Transport, activity: Activity) -> None:
        self.number = number
        self.transport = transport
        self.opened: Instant = now()
        self.client: str | None = None
        self.closed = False
        self.history: BoundedLog[CallRecord] = BoundedLog(activity.history_limit)
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.tools = BoundedCounts(TOOL_LIMIT)
        self._activity = activity

    def introduce(self, client: object) -> None:
        """Note the client's name: its printable characters, up to a limit. Ignores what is no string."""
        if isinstance(client, str):
            self.client = "".join(filter(str.isprintable, client[:CLIENT_CHARACTERS])) or None

    @contextmanager
    def call(self, tool: str, bytes_in: int) -> Iterator[RunningCall]:
        """Count the call as running within the block. How the block ends is its outcome."""
        running = RunningCall(tool, bytes_in, now(), time.monotonic())
        self._activity.began(running)
        outcome = Outcome.ERROR
        try:
            yield running
            outcome = Outcome.OK
        except (Cancelled, CancelledError):
            outcome = Outcome.CANCELLED
            raise
        except PalaceError:
            outcome = Outcome.REFUSED
            raise
        finally:
            self._activity.ended(self, running, outcome)

    def close(self) -> None:
        """The client is gone: drop its history, keep its calls in the totals."""
        self._activity.forget(self)


class Activity:
    """All sessions of the process. Thread-safe; no lock is held while calls run."""

    def __init__(self, history_limit: int, session_limit: int = SESSION_LIMIT) -> None:
        self.began_at: Instant = now()
        self._history_limit = history_limit
        self._remembered: LruMap[int, SessionActivity] = LruMap(session_limit, on_drop=_clear_history)
        self._open: dict[Transport, int] = dict.fromkeys(Transport, 0)
        self._calls: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self._tools = BoundedCounts(TOOL_LIMIT)
        self._running: dict[int, RunningCall] = {}
        self._numbers = itertools.count(1)
        self._call_numbers = itertools.count(1)
        self._opened = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._lock = threading.Lock()

    @property
    def history_limit(self) -> int:
        """Calls remembered of each session at most. A lower limit drops the oldest calls at once."""
        return self._history_limit

    @history_limit.setter
    def history_limit(self, limit: int) -> None:
        with self._lock:
            self._history_limit = limit
            for session in self.sessions():
                session.history.limit = limit

    def open(self, transport: Transport) -> SessionActivity:
        """Open a session; the caller closes it."""
        with self._lock:
            session = SessionActivity(next(self._numbers), transport, self)
            self._opened += 1
            self._open[transport] += 1
            self._remembered.put(session.number, session)
        return session

    def forget(self, session: SessionActivity) -> None:
        """Close the session and drop its history. Idempotent."""
        with self._lock:
            if not session.closed:
                session.closed = True
                self._open[session.transport] -= 1
                self._remembered.pop(session.number)
                session.history.clear()

    def began(self, call: RunningCall) -> None:
        """Count the call among the running ones."""
        with self._lock:
            self._running[id(call)] = call

    def ended(self, session: SessionActivity, call: RunningCall, outcome: Outcome) -> None:
        """Record the call in its session and in the totals."""
        milliseconds = (time.monotonic() - call.started) * 1000
        with self._lock:
            del self._running[id(call)]
            self._calls[outcome] += 1
            self._tools.add(call.tool)
            self._bytes_in += call.bytes_in
            self._bytes_out += call.bytes_out
            session.outcomes[outcome] += 1
            session.tools.add(call.tool)
            number = next(self._call_numbers)
            if not session.closed:
                session.history.limit = self._history_limit
                session.history.append(
                    CallRecord(number, call.tool, outcome, call.began, milliseconds, call.bytes_in, call.bytes_out)
                )
                self._remembered.put(session.number, session)

    def sessions(self) -> list[SessionActivity]:
        """The sessions with a history, the least recently active first."""
        return self._remembered.values()

    def statistics(self) -> ActivityStatistics:
        """The figures now."""
        sizes = [len(session.history) for session in self.sessions()]
        with self._lock:
            oldest = next(iter(self._running.values()), None)
            return ActivityStatistics(
                calls=dict(self._calls),
                tools=self._tools.counts(),
                running=len(self._running),
                oldest_seconds=None if oldest is None else time.monotonic() - oldest.started,
                sessions=dict(self._open),
                sessions_opened=self._opened,
                sessions_remembered=len(sizes),
                history_size=max(sizes, default=0),
                history_total=sum(sizes),
                history_limit=self._history_limit,
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
            )


def _clear_history(number: int, session: SessionActivity) -> None:
    """Drop the history of the least recently active session; its counts stay."""
    session.history.clear()


_MILLISECOND_DIGITS = 3

Entry = tuple[SessionActivity, CallRecord]


def describe_history(
    activity: Activity, *, session: int | None = None, limit: int, cursor: str | None = None
) -> dict[str, Any]:
    """A page of the remembered calls of one session or of all, newest first. JSON-safe.

    Raises:
        NotFound: the session is not remembered.
        InvalidArgument: the cursor is of another process or another session.
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
        "began_at": format_instant(call.began),
        "milliseconds": round(call.milliseconds, _MILLISECOND_DIGITS),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
    }


def _session(session: SessionActivity) -> dict[str, Any]:
    return {
        "session": session.number,
        "transport": session.transport.value,
        "client": session.client,
        "opened_at": format_instant(session.opened),
        "outcomes": {outcome.value: count for outcome, count in session.outcomes.items()},
        "tools": session.tools.counts(),
    }
