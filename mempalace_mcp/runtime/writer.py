"""The writer: the one thread of a process that writes, with group commit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import Busy, PalaceError
from mempalace_mcp.core.figures import counter, gauge
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.runtime.event_loop import until_done
from mempalace_mcp.storage.database import GroupWriter
from mempalace_mcp.storage.transactions import Transaction, Unit, Work

T = TypeVar("T")

GROUP_LIMIT = 64
"""Units in a group at most: a group holds the write lock while it runs."""

RETURN_SECONDS = 0.001
"""How long the next group waits for the clients of the last one, which may write again at once."""


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """The queue now, and totals since the start; times in seconds.

    `oldest_waiting` is the age of the oldest unsettled unit, in the queue or in the group that is being committed.
    `committing` is the size of that group. `refused` counts units that found the queue full. `wait_total` and
    `wait_max` measure the time that units spend in the queue.
    """

    alive: bool
    waiting: int = field(metadata=gauge("writer_waiting", "Writes in the queue."))
    waiting_limit: int
    oldest_waiting: float = field(metadata=gauge("writer_oldest_seconds", "Age of the oldest unsettled write."))
    committing: int
    units: int
    groups: int
    largest_group: int
    refused: int
    wait_total: float = field(metadata=counter("writer_wait_seconds", "Time of writes in the queue."))
    wait_max: float = field(metadata=gauge("writer_wait_max_seconds", "Longest time of a write in the queue."))


class WriterThread:
    """Runs units of work for any number of threads, in the order of their arrival. A `Writer`.

    A call that does little else than write can run in the writer as a whole (`run`). To hand its write over from a
    thread of the executor, and the result back, would take several times as long as the write.
    """

    def __init__(self, database: GroupWriter, queue_limit: int = 1024, return_seconds: float = RETURN_SECONDS) -> None:
        self._database = database
        self._limit = queue_limit
        self._return_seconds = return_seconds
        self._queue: deque[tuple[float, Unit[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._expected = 1
        """Expected size of the next group."""
        self._inside: Transaction | None = None
        """The transaction of the call that runs in the writer now."""
        self._after_commit: list[Callable[[], None]] = []
        self._committing = 0
        self._group_arrived = 0.0
        self._units = 0
        self._groups = 0
        self._largest_group = 0
        self._refused = 0
        self._wait_total = 0.0
        self._wait_max = 0.0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit and return its result once it is durable. A unit that has begun is always waited for.

        In a call that runs in the writer the unit is part of the call's transaction, and durable when that is.

        Raises:
            Busy: the queue is full.
            Cancelled, DeadlineExceeded: it had not begun when the caller gave up, or when the time was over.
            PalaceError: refused by the unit itself, by storage, or because the writer is closed.
        """
        if self._inside is not None and threading.current_thread() is self._thread:
            with self._inside.savepoint():
                return work(self._inside)
        outcome = self.submit(work, deadline)
        try:
            while not outcome.done():
                if seconds := deadline.remaining:
                    with suppress(TimeoutError):
                        outcome.exception(seconds)
                elif outcome.cancel():
                    deadline.check(self._database.awaited())
                else:
                    outcome.exception()
        except BaseException:  # an interrupted caller cancels a unit that has not begun
            outcome.cancel()
            raise
        return outcome.result()

    def after_commit(self, function: Callable[[], None]) -> None:
        """Call the function once the writes before this are durable; at once, unless a call runs in the writer.

        It is called after a failed commit too, and must not raise.
        """
        if self._inside is not None and threading.current_thread() is self._thread:
            self._after_commit.append(function)
        else:
            function()

    @property
    def has_room(self) -> bool:
        """Can the waiting units be committed as one group? Otherwise calls should not run in the writer."""
        return len(self._queue) < GROUP_LIMIT

    async def run(self, function: Callable[[], T], deadline: Deadline) -> T:
        """Call the function in the writer thread and return its result once its writes are durable.

        Each of its writes is atomic; if the function raises a PalaceError, the writes before that stay. Like any unit
        of work it may run more than once, so it must do nothing but compute and write.

        Raises:
            Busy: the queue is full.
            Cancelled, DeadlineExceeded: it had not begun when the caller gave up, or when the time was over.
            PalaceError: refused by the function, by storage, or because the writer is closed.
        """
        outcome = self.submit(lambda transaction: self._attempt(transaction, function, deadline), deadline)
        timer = asyncio.get_running_loop().call_later(deadline.remaining, outcome.cancel)
        try:
            await until_done(outcome)
        finally:
            timer.cancel()
            outcome.cancel()  # a cancelled caller cancels a unit that has not begun
        if outcome.cancelled():
            deadline.check(self._database.awaited())
        settled = outcome.result()
        if isinstance(settled, PalaceError):
            raise settled
        return settled

    def submit(self, work: Work[T], deadline: Deadline) -> Future[T]:
        """Queue the unit. Cancelling the future removes it, as long as it has not begun.

        Raises:
            Busy: the queue is full.
            PalaceError: the writer is closed, or its thread has ended.
        """
        unit = Unit(work, deadline)
        with self._changed:
            if self._closed:
                raise PalaceError("the palace is closed", hint="Connect again.")
            if not self._thread.is_alive():
                raise PalaceError("the writer thread has ended; nothing was written", hint="Restart the server.")
            self._make_room()
            self._queue.append((time.monotonic(), unit))
            self._changed.notify_all()  # not `notify`: an interrupted thread may leave a waiter behind that takes it
        return unit.outcome

    def statistics(self) -> WriterStatistics:
        """The figures now."""
        with self._changed:
            return WriterStatistics(
                alive=self._thread.is_alive(),
                waiting=len(self._queue),
                waiting_limit=self._limit,
                oldest_waiting=self._oldest_waiting(),
                committing=self._committing,
                units=self._units,
                groups=self._groups,
                largest_group=self._largest_group,
                refused=self._refused,
                wait_total=self._wait_total,
                wait_max=self._wait_max,
            )

    def close(self, timeout: float = COMMAND_SECONDS) -> None:
        """Commit the waiting units, then stop. Refuses those left after `timeout` seconds. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        wait_for_end(self._thread, timeout)
        with self._changed:
            left = [unit for _, unit in self._queue]
            self._queue.clear()
        for unit in left:
            unit.refuse(Busy("the palace was closed before this write began", hint="Try again."))

    def _attempt(self, transaction: Transaction, function: Callable[[], T], deadline: Deadline) -> T | PalaceError:
        """Call the function inside the transaction. A refusal is returned, so that its receipt is committed."""
        deadline.writes, self._inside = 0, transaction
        try:
            return function()
        except PalaceError as refusal:
            return refusal
        finally:
            self._inside = None

    def _oldest_waiting(self) -> float:
        if self._committing:
            return time.monotonic() - self._group_arrived
        return time.monotonic() - self._queue[0][0] if self._queue else 0.0

    def _make_room(self) -> None:
        if len(self._queue) < self._limit:
            return
        waiting = [(arrived, unit) for arrived, unit in self._queue if not unit.outcome.cancelled()]
        if len(waiting) >= self._limit:
            self._refused += 1
            raise Busy(f"{self._limit} writes are waiting already", hint="Try again in a moment.")
        self._queue = deque(waiting)

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._database.write_group(group)
            except BaseException as error:  # noqa: BLE001 - callers get it, and this thread must go on
                for unit in group:
                    unit.refuse(error)
            for function in self._after_commit:
                function()
            self._after_commit.clear()

    def _next_group(self) -> list[Unit[Any]]:
        """All waiting units, up to the limit; empty when closed and drained."""
        # Clients that write again after each answer would split into two alternating groups, each with its own commit.
        # The group therefore waits a moment for its expected size. (PostgreSQL has `commit_delay` for this.)
        with self._changed:
            self._committing = 0
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(lambda: len(self._queue) >= self._expected or self._closed, self._return_seconds)
            now = time.monotonic()
            self._group_arrived = self._queue[0][0] if self._queue else now
            group: list[Unit[Any]] = []
            while self._queue and len(group) < GROUP_LIMIT:
                arrived, unit = self._queue.popleft()
                group.append(unit)
                self._wait_total += now - arrived
                self._wait_max = max(self._wait_max, now - arrived)
            self._committing = len(group)
            self._units += len(group)
            self._groups += bool(group)
            self._largest_group = max(self._largest_group, len(group))
        if group:
            group[0].outcome.add_done_callback(self._expect)
        return group

    def _expect(self, _: Future[Any]) -> None:
        """Set the expected size, when the first unit is settled and no client can have written again yet."""
        self._expected = min(self._committing + len(self._queue), GROUP_LIMIT)
