"""Threads for calls, shared fairly between clients.

A waiting line in which nobody's turn depends on how much others want.

The one pool of threads in which blocking work runs, shared fairly between clients.
"""

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
from operator import methodcaller
from typing import Any, Generic, ParamSpec, TypeVar

from mempalace_mcp.core.errors import Busy, PalaceError
from mempalace_mcp.core.figures import gauge
from mempalace_mcp.runtime.event_loop import until_done

T = TypeVar("T")


class FairQueue(Generic[T]):
    """What clients wait for, in the order of each client; the clients take turns. Not thread-safe."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def count(self, client: Hashable) -> int:
        """How many of the client's are waiting."""
        return len(self._clients.get(client, ()))

    def add(self, client: Hashable, item: T) -> None:
        """Put it behind the client's others; a client that has none waits behind all clients."""
        self._clients.setdefault(client, deque()).append(item)
        self._length += 1

    def first(self) -> T | None:
        """What waits at the head of the client whose turn is next."""
        return next((waiting[0] for waiting in self._clients.values()), None)

    def take(self, may: Callable[[Hashable], bool]) -> T | None:
        """The first item of the first client who may have its turn, which is then the last client; None without one."""
        client = next(filter(may, self._clients), None)
        if client is None:
            return None
        self._clients.move_to_end(client)
        item = self._clients[client].popleft()
        self._shorten(client)
        return item

    def remove(self, client: Hashable, item: T) -> None:
        """Take it out, if it is still there."""
        waiting = self._clients.get(client)
        if waiting is not None and item in waiting:
            waiting.remove(item)
            self._shorten(client)

    def clear(self) -> list[T]:
        """Take everything out."""
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
"""Threads that a client leaves free for each that it has: more calls of one at once only slow down those of others."""

CLOSE_SECONDS = 10.0
LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """The pool now: calls at work and in line, the seconds of the one at work for longest; `refused` is a total."""

    threads: int
    running: int = field(metadata=gauge("executor_running", "Calls that have a thread."))
    waiting: int = field(metadata=gauge("executor_waiting", "Calls that wait for a thread."))
    waiting_limit: int
    oldest_running: float
    refused: int


class Executor:
    """Runs blocking functions for coroutines, a bounded number at a time, with a bounded line before it.

    A call whose task is cancelled leaves the line at once and never runs; once begun, it runs to its end and keeps its
    thread. So the count of what runs is always the truth about the threads.

    Clients take turns. None may have more than a quarter of the threads that it leaves free, or more places than it
    leaves free. So there is a thread for whoever asks for the first time, however much the others ask for.
    """

    def __init__(self, threads: int, waiting_limit: int = WAITING_LIMIT) -> None:
        self._threads = threads
        self._waiting_limit = waiting_limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="palace")
        self._changed = threading.Condition()
        self._line: FairQueue[_Call[Any]] = FairQueue()
        self._at_work = 0
        self._running: dict[_Call[Any], float] = {}
        self._shares: Counter[Hashable] = Counter()
        self._refused = 0
        self._closed = False

    async def run(self, client: Hashable, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function for the client in a thread, in the context of this task, and return what it returns.

        Raises:
            Busy: the line is full, or the client's share of it.
            PalaceError: the executor is closed.
        """
        call = _Call(client, functools.partial(contextvars.copy_context().run, function, *args, **kwargs))
        self._admit(call)
        try:
            await until_done(call.outcome)
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        return call.outcome.result()

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
            left = self._line.clear()
        for call in left:
            if call.outcome.set_running_or_notify_cancel():
                call.outcome.set_exception(_closed())
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._running, timeout)
            if not ended:
                logger.warning("%d calls have not ended within %.0f s; they are left", len(self._running), timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def _admit(self, call: _Call[Any]) -> None:
        with self._changed:
            if self._closed:
                raise _closed()
            self._verify_room(call.client)
            if self._at_work < self._threads:
                self._pool.submit(self._work)  # raises if the system has no thread for us
                self._at_work += 1
            self._line.add(call.client, call)

    def _verify_room(self, client: Hashable) -> None:
        own, waiting = self._line.count(client) + self._shares[client], len(self._line)
        if own >= self._threads + self._waiting_limit - len(self._running) - waiting:
            self._refused += 1
            raise Busy(
                f"{waiting} calls are waiting already, {self._line.count(client)} of them yours",
                hint="Try again in a moment, with fewer calls at a time.",
                retry_after=self._seconds_in_line(),
            )

    def _seconds_in_line(self) -> float:
        """How long the line may take, which is how long it has taken whoever comes next; whole seconds."""
        oldest = self._line.first()
        waited = 0.0 if oldest is None else time.monotonic() - oldest.arrived
        return float(math.ceil(min(max(waited, 1.0), LONGEST_RETRY_SECONDS)))

    def _give_up(self, call: _Call[Any]) -> None:
        """Free the place of a call that nobody waits for any more, if it has not begun."""
        call.outcome.cancel()
        with self._changed:
            self._line.remove(call.client, call)

    def _work(self) -> None:
        """Run what waits until nothing does. There are never more of these than threads."""
        while (call := self._begin_next()) is not None:
            settle = _attempt(call.function)
            with self._changed:
                self._end(call)
            settle(call.outcome)

    def _begin_next(self) -> _Call[Any] | None:
        with self._changed:
            while (call := self._line.take(self._may_begin)) is not None:
                if call.outcome.set_running_or_notify_cancel():
                    self._running[call] = time.monotonic()
                    self._shares[call.client] += 1
                    return call
            self._at_work -= 1
            self._changed.notify_all()
            return None

    def _may_begin(self, client: Hashable) -> bool:
        return FREE_FOR_EACH * self._shares[client] < self._threads - len(self._running)

    def _end(self, call: _Call[Any]) -> None:
        del self._running[call]
        self._shares[call.client] -= 1
        if not self._shares[call.client]:
            del self._shares[call.client]


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T]):
    """A function with its arguments, for whom it is called, and what becomes of it."""

    client: Hashable
    function: Callable[[], T]
    outcome: Future[T] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


def _attempt(function: Callable[[], Any]) -> Callable[[Future[Any]], None]:
    """Call the function; what it came to, to be told to a future. (No frame of an error's trace holds the future.)"""
    try:
        return methodcaller("set_result", function())
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return methodcaller("set_exception", error)


def _closed() -> PalaceError:
    return PalaceError("the palace is closed", hint="Connect again.")
