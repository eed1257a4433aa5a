"""The one pool of threads in which blocking work runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, Generic, ParamSpec, TypeVar

from mempalace_mcp.core.errors import Busy, PalaceError

P = ParamSpec("P")
T = TypeVar("T")

WAITING_LIMIT = 256
CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """The pool now: calls at work and in line, the seconds of the one at work for longest; `refused` is a total."""

    threads: int
    running: int
    waiting: int
    waiting_limit: int
    oldest_running: float
    refused: int


class Executor:
    """Runs blocking functions for coroutines, a bounded number at a time, with a bounded line before it.

    A call whose task is cancelled leaves the line at once and never runs; once begun, it runs to its end and keeps its
    thread. So the count of what runs is always the truth about the threads.
    """

    def __init__(self, threads: int, waiting_limit: int = WAITING_LIMIT) -> None:
        self._threads = threads
        self._waiting_limit = waiting_limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="palace")
        self._changed = threading.Condition()
        self._line: deque[_Call[Any]] = deque()
        self._at_work = 0
        self._running: dict[_Call[Any], float] = {}
        self._refused = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread, in the context of this task, and return what it returns.

        Raises:
            Busy: the line is full.
            PalaceError: the executor is closed.
        """
        call = _Call(functools.partial(contextvars.copy_context().run, function, *args, **kwargs))
        self._admit(call)
        try:
            return await asyncio.wrap_future(call.outcome)
        except asyncio.CancelledError:
            self._give_up(call)
            raise

    def statistics(self) -> ExecutorStatistics:
        """What runs, what waits."""
        with self._changed:
            return ExecutorStatistics(
                threads=self._threads,
                running=len(self._running),
                waiting=len(self._line),
                waiting_limit=self._waiting_limit,
                oldest_running=time.monotonic() - min(self._running.values()) if self._running else 0.0,
                refused=self._refused,
            )

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait for what has begun, refuse what has not; False if something still runs after `timeout` seconds."""
        with self._changed:
            self._closed = True
            left, self._line = self._line, deque()
        for call in left:
            if call.outcome.set_running_or_notify_cancel():
                call.outcome.set_exception(_closed())
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._at_work, timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def _admit(self, call: _Call[Any]) -> None:
        with self._changed:
            if self._closed:
                raise _closed()
            if len(self._line) + len(self._running) >= self._threads + self._waiting_limit:
                self._refused += 1
                raise Busy(f"{self._waiting_limit} calls are waiting already", hint="Try again in a moment.")
            if self._at_work < self._threads:
                self._pool.submit(self._work)  # raises if the system has no thread for us
                self._at_work += 1
            self._line.append(call)

    def _give_up(self, call: _Call[Any]) -> None:
        """Free the place of a call that nobody waits for any more, if it has not begun."""
        with self._changed:
            if call in self._line:
                self._line.remove(call)

    def _work(self) -> None:
        """Run what waits until nothing does. There are never more of these than threads."""
        while (call := self._begin_next()) is not None:
            settle = _attempt(call.function)
            with self._changed:
                del self._running[call]
            settle(call.outcome)

    def _begin_next(self) -> _Call[Any] | None:
        with self._changed:
            while self._line:
                call = self._line.popleft()
                if call.outcome.set_running_or_notify_cancel():
                    self._running[call] = time.monotonic()
                    return call
            self._at_work -= 1
            self._changed.notify_all()
            return None


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T]):
    """A function with its arguments, and what becomes of it."""

    function: Callable[[], T]
    outcome: Future[T] = field(default_factory=Future)


def _attempt(function: Callable[[], Any]) -> Callable[[Future[Any]], None]:
    """Call the function; what it came to, to be told to a future. (No frame of an error's trace holds the future.)"""
    try:
        return methodcaller("set_result", function())
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return methodcaller("set_exception", error)


def _closed() -> PalaceError:
    return PalaceError("the palace is closed", hint="Connect again.")
