"""The event loop of a serving process: running it, waiting in it for threads, and measuring how late it is."""

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
    """Run the coroutine function in a new event loop and return its result."""
    return anyio.run(serve, *arguments, backend_options={"use_uvloop": platform.HAS_UVLOOP})


async def until_done(future: Future[Any]) -> None:
    """Wait until a thread has settled or cancelled the future. If the waiting task is cancelled, the future is not."""
    # `asyncio.wrap_future` would cancel it, and takes twice as long.
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the waiting task with it
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
    """Measures how late the event loop wakes a sleeping task. Any thread may read it."""

    def __init__(self, tick: float = TICK_SECONDS, window: float = LAG_WINDOW_SECONDS) -> None:
        self._tick = tick
        self._lags: deque[float] = deque(maxlen=max(1, int(window / tick)))
        self._due: float | None = None
        self.task_count: int | None = None

    def start(self) -> None:
        """Note that the loop runs."""
        self.task_count = len(asyncio.all_tasks())

    async def beat(self) -> None:
        """Sleep once, and note by how much the loop woke the task too late."""
        self._due = time.monotonic() + self._tick
        await asyncio.sleep(self._tick)
        self._lags.append(self.overdue)
        self.task_count = len(asyncio.all_tasks())

    def stop(self) -> None:
        """Note that the loop is not watched any more, and so is not late."""
        self._due = None

    @property
    def overdue(self) -> float:
        """Seconds the loop is late now."""
        due = self._due
        return 0.0 if due is None else max(0.0, time.monotonic() - due)

    @property
    def lag(self) -> float | None:
        """Seconds the loop was late at the last measurement, or is late now if that is more."""
        return max(self._lags[-1], self.overdue) if self._lags else None

    @property
    def largest_lag(self) -> float | None:
        """The largest lag of the last minute."""
        lags = self._lags.copy()
        return max(*lags, self.overdue) if lags else None

    def statistics(self) -> LoopStatistics:
        """The figures now."""
        return LoopStatistics(self.task_count, self.lag, self.largest_lag)
