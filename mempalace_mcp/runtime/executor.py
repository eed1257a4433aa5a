"""The one pool of threads for blocking work, shared fairly between clients."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar

from mempalace_mcp.core.errors import Busy, PalaceError
from mempalace_mcp.core.figures import gauge
from mempalace_mcp.runtime.event_loop import until_done

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue for each client, served in turn; the items of one client stay in order. Not thread-safe."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def count(self, client: Hashable) -> int:
        """How many items of the client are waiting."""
        return len(self._clients.get(client, ()))

    def add(self, client: Hashable, item: T) -> None:
        """Append it to the client's queue; a client that had none is served after all others."""
        self._clients.setdefault(client, deque()).append(item)
        self._length += 1

    def first(self) -> T | None:
        """The first item of the client whose turn is next."""
        return next((waiting[0] for waiting in self._clients.values()), None)

    def take(self, may: Callable[[Hashable], bool]) -> T | None:
        """The first item of the first client that `may` be served, which is then served last; None if there is none."""
        client = next(filter(may, self._clients), None)
        if client is None:
            return None
        self._clients.move_to_end(client)
        item = self._clients[client].popleft()
        self._shorten(client)
        return item

    def remove(self, client: Hashable, item: T) -> None:
        """Remove it, if it is still there."""
        waiting = self._clients.get(client)
        if waiting is not None and item in waiting:
            waiting.remove(item)
            self._shorten(client)

    def clear(self) -> list[T]:
        """Remove and return all items."""
        items = [item for waiting in self._clients.values() for item in waiting]
        self._clients.clear()
        self._length = 0
        return items

    def _shorten(self, client: Hashable) -> None:
        self._length -= 1
        if not self._clients[client]:
            del self._clients[client]


logger = logging.getLogger(__name__)

P = ParamSpec("P")

WAITING_LIMIT = 256
FREE_FOR_EACH = 4
"""Threads that must be free for each one that a client has: many calls of one client slow down all the others."""

CLOSE_SECONDS = 10.0
LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """Calls that run and that wait now, seconds of the longest-running one, and how many were refused in all."""

    threads: int
    running: int = field(metadata=gauge("executor_running", "Calls that have a thread."))
    waiting: int = field(metadata=gauge("executor_waiting", "Calls that wait for a thread."))
    waiting_limit: int
    oldest_running: float
    refused: int


class Executor:
    """Runs blocking functions for coroutines, with a bounded number of threads and a bounded queue.

    A call whose task is cancelled leaves the queue at once and never runs. A call that has begun runs to its end and
    keeps its thread, so `running` is the number of busy threads.

    Clients take turns. A client gets another thread only while four are free for each that it has, and another place
    only while as many are free as it has. So a new client finds a thread, however many calls the others make.
    """

    def __init__(self, threads: int, waiting_limit: int = WAITING_LIMIT) -> None:
        self._threads = threads
        self._waiting_limit = waiting_limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="palace")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: FairQueue[_Call[Any]] = FairQueue()
        self._workers = 0
        self._running: dict[_Call[Any], float] = {}
        self._running_of: Counter[Hashable] = Counter()
        self._refused = 0
        self._closed = False

    async def run(self, client: Hashable, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function for the client in a thread, in the context of this task, and return what it returns.

        Raises:
            Busy: the queue is full, or the client's share of it.
            PalaceError: the executor is closed.
        """
        call = _Call(client, functools.partial(contextvars.copy_context().run, function, *args, **kwargs))
        self._admit(call)
        try:
            await until_done(call.outcome)
        except asyncio.CancelledError:
            self._cancel(call)
            raise
        try:
            return call.outcome.result()
        finally:
            del call  # this frame is in the error's traceback, and must not hold the future that holds the error

    def statistics(self) -> ExecutorStatistics:
        """The figures now."""
        with self._lock:
            return ExecutorStatistics(
                threads=self._threads,
                running=len(self._running),
                waiting=len(self._queue),
                waiting_limit=self._waiting_limit,
                oldest_running=time.monotonic() - min(self._running.values()) if self._running else 0.0,
                refused=self._refused,
            )

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Refuse the waiting calls and wait for the running ones; False if some still run after `timeout` seconds."""
        with self._lock:
            self._closed = True
            waiting = self._queue.clear()
        for call in waiting:
            if call.outcome.set_running_or_notify_cancel():
                call.outcome.set_exception(_closed())
        with self._lock:
            ended = self._changed.wait_for(lambda: not self._running, timeout)
            if not ended:
                logger.warning("%d calls have not ended within %.0f s; they are left", len(self._running), timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def _admit(self, call: _Call[Any]) -> None:
        with self._lock:
            if self._closed:
                raise _closed()
            self._verify_room(call.client)
            if self._workers < self._threads:
                self._pool.submit(self._work)  # raises if the system has no thread for us
                self._workers += 1
            self._queue.add(call.client, call)

    def _verify_room(self, client: Hashable) -> None:
        own, waiting = self._queue.count(client) + self._running_of[client], len(self._queue)
        if own >= self._threads + self._waiting_limit - len(self._running) - waiting:
            self._refused += 1
            raise Busy(
                f"{waiting} calls are waiting already, {self._queue.count(client)} of them yours",
                hint="Try again in a moment, with fewer calls at a time.",
                retry_after=self._retry_seconds(),
            )

    def _retry_seconds(self) -> float:
        """An estimate of the time in the queue: that of the next call, in whole seconds."""
        oldest = self._queue.first()
        waited = 0.0 if oldest is None else time.monotonic() - oldest.arrived
        return float(math.ceil(min(max(waited, 1.0), LONGEST_RETRY_SECONDS)))

    def _cancel(self, call: _Call[Any]) -> None:
        """Remove a call from the queue, if it has not begun."""
        call.outcome.cancel()
        with self._lock:
            self._queue.remove(call.client, call)

    def _work(self) -> None:
        """Run waiting calls until there are none. Each worker occupies a thread of the pool."""
        while (call := self._begin_next()) is not None:
            result, error = _attempt(call.function)
            with self._lock:
                self._end(call)  # before the caller wakes, so that it finds its thread free
            if error is None:
                call.outcome.set_result(result)
            else:
                call.outcome.set_exception(error)
            del result, error  # the error's traceback refers to this frame by way of `_attempt`'s

    def _begin_next(self) -> _Call[Any] | None:
        with self._lock:
            while (call := self._queue.take(self._may_begin)) is not None:
                if call.outcome.set_running_or_notify_cancel():
                    self._running[call] = time.monotonic()
                    self._running_of[call.client] += 1
                    return call
            self._workers -= 1
            self._changed.notify_all()
            return None

    def _may_begin(self, client: Hashable) -> bool:
        return FREE_FOR_EACH * self._running_of[client] < self._threads - len(self._running)

    def _end(self, call: _Call[Any]) -> None:
        del self._running[call]
        self._running_of[call.client] -= 1
        if not self._running_of[call.client]:
            del self._running_of[call.client]


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T]):
    """A function with its arguments, the client that calls it, and the future of its outcome."""

    client: Hashable
    function: Callable[[], T]
    outcome: Future[T] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


def _attempt(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """Call the function; its result, or its error."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return None, error


def _closed() -> PalaceError:
    return PalaceError("the palace is closed", hint="Connect again.")
