"""The one pool of threads in which blocking work runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

    A call whose task is cancelled keeps its place until a thread has got to it: begun, it runs to its end; not begun,
    it is skipped. So the count of places is always the truth about the threads.
    """

    def __init__(self, threads: int, waiting_limit: int = WAITING_LIMIT) -> None:
        self._threads = threads
        self._waiting_limit = waiting_limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="palace")
        self._changed = threading.Condition()
        self._places = 0
        self._running: dict[object, float] = {}
        self._refused = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread, in the context of this task, and return what it returns.

        Raises:
            Busy: the line is full.
            PalaceError: the executor is closed.
        """
        call = _Call(functools.partial(contextvars.copy_context().run, function, *args, **kwargs))
        future = asyncio.wrap_future(self._submit(call))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            call.abandoned = True
            future.add_done_callback(_disregard)
            raise

    def statistics(self) -> ExecutorStatistics:
        """What runs, what waits."""
        with self._changed:
            return ExecutorStatistics(
                threads=self._threads,
                running=len(self._running),
                waiting=self._places - len(self._running),
                waiting_limit=self._waiting_limit,
                oldest_running=time.monotonic() - min(self._running.values()) if self._running else 0.0,
                refused=self._refused,
            )

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait for what has begun, refuse what has not; False if something still runs after `timeout` seconds."""
        with self._changed:
            self._closed = True
            ended = self._changed.wait_for(lambda: not self._places, timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def _submit(self, call: _Call[T]) -> Future[T]:
        with self._changed:
            if self._closed:
                raise _closed()
            if self._places >= self._threads + self._waiting_limit:
                self._refused += 1
                raise Busy(f"{self._waiting_limit} calls are waiting already", hint="Try again in a moment.")
            self._places += 1
            try:
                return self._pool.submit(self._perform, call)
            except RuntimeError:  # the system has no thread for us
                self._places -= 1
                raise

    def _perform(self, call: _Call[T]) -> T:
        with self._changed:
            self._running[call] = time.monotonic()
        try:
            if self._closed or call.abandoned:
                raise _closed()
            return call.function()
        finally:
            with self._changed:
                del self._running[call]
                self._places -= 1
                self._changed.notify_all()


class _Call(Generic[T]):
    """A function with its arguments, and whether somebody still waits for it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.abandoned = False


def _disregard(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more: else the event loop logs it as forgotten."""
    if not future.cancelled():
        future.exception()


def _closed() -> PalaceError:
    return PalaceError("the palace is closed", hint="Connect again.")
