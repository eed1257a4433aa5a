"""The event loop of a serving process, and how late it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple

import anyio

from mempalace_mcp.core import platform
from mempalace_mcp.core.figures import gauge

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TICK_SECONDS = 0.25
LAG_WINDOW_SECONDS = 60.0


def run_loop(serve: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """Run the coroutine function in an event loop of its own, and return what it returns."""
    return anyio.run(serve, *arguments, backend_options={"use_uvloop": platform.HAS_UVLOOP})


async def until_done(future: Future[Any]) -> None:
    """Wait until some thread has settled or cancelled the future, which a caller who gives up waiting leaves alone.

    (That, and half the time: `asyncio.wrap_future` takes the cancellation of either side for that of the other.)
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_settle, done)

    future.add_done_callback(wake)
    await done


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """The event loop, as it was measured last; None before the first measurement."""

    task_count: int | None = field(
        metadata=gauge("asyncio_task_count", "Tasks of the event loop.", metric="mempalace_asyncio_tasks")
    )
    lag: float | None = field(
        metadata=gauge("event_loop_lag_seconds", "How late the event loop was when it was last measured.")
    )
    largest_lag: float | None = field(
        metadata=gauge("event_loop_lag_max_seconds", "The largest lag of the last minute.")
    )


class Heartbeat:
    """Measures how late the event loop wakes a task that sleeps. Read by any thread."""

    def __init__(self, tick: float = TICK_SECONDS, window: float = LAG_WINDOW_SECONDS) -> None:
        self._tick = tick
        self._lags: deque[float] = deque(maxlen=max(1, int(window / tick)))
        self._due: float | None = None
        self.task_count: int | None = None

    def start(self) -> None:
        """The loop is there."""
        self.task_count = len(asyncio.all_tasks())

    async def beat(self) -> None:
        """Sleep once, and note by how much it was too long."""
        self._due = time.monotonic() + self._tick
        await asyncio.sleep(self._tick)
        self._lags.append(self.overdue)
        self.task_count = len(asyncio.all_tasks())

    def stop(self) -> None:
        """The loop is no longer watched, so it is not late either."""
        self._due = None

    @property
    def overdue(self) -> float:
        """Seconds the loop is late at this moment."""
        due = self._due
        return 0.0 if due is None else max(0.0, time.monotonic() - due)

    @property
    def lag(self) -> float | None:
        """Seconds the loop is or was late, the present delay included."""
        return max(self._lags[-1], self.overdue) if self._lags else None

    @property
    def largest_lag(self) -> float | None:
        """The largest lag of the last minute."""
        lags = self._lags.copy()
        return max(*lags, self.overdue) if lags else None

    def statistics(self) -> LoopStatistics:
        """All of it."""
        return LoopStatistics(self.task_count, self.lag, self.largest_lag)
