"""The one thread of a process that writes: whatever waits for it is committed together."""

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
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction, Unit, Work

T = TypeVar("T")

GROUP_LIMIT = 64
"""Units committed together at most: a group holds the write lock while it runs."""

RETURN_SECONDS = 0.001
"""How long those are waited for who were just answered and may ask again, so that the next group is as large."""


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """The queue now, in units and seconds, and what has passed through it.

    `oldest_waiting` is the age of the unit that arrived before all others and is not settled yet, in the queue or in
    the group at work, whose units `committing` counts. `refused` counts those that found the queue full; `wait_total`
    and `wait_max` are from the arrival in the queue to its end.
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

    A brief call, which does little else than to write, runs in this thread as a whole (`run`): handing its write over
    from a thread of its own, and the outcome back, would take several times as long as the write.
    """

    def __init__(self, database: Database, queue_limit: int = 1024, return_seconds: float = RETURN_SECONDS) -> None:
        self._database = database
        self._limit = queue_limit
        self._return_seconds = return_seconds
        self._queue: deque[tuple[float, Unit[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._expected = 1
        """How many may ask soon: those who were just answered, and those who waited then."""
        self._inside: Transaction | None = None
        """Of the brief call that runs now."""
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
        """Run the unit and return its result once it is durable. Once it has begun, its end is waited for.

        In a brief call the unit is a part of the transaction that the call runs in, and durable when that is.

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
        except BaseException:  # an interrupted caller gives up what has not begun
            outcome.cancel()
            raise
        return outcome.result()

    @property
    def has_room(self) -> bool:
        """True while what waits can be committed together: brief calls shall not be in each other's way for long."""
        return len(self._queue) < GROUP_LIMIT

    async def run(self, function: Callable[[], T], deadline: Deadline) -> T:
        """Call the function in this thread and return what it returns once what it has written is durable.

        Each of its writes is whole or not at all, as everywhere; if it refuses in the end, what it has written stays.
        As any unit of work it may run more than once, so it must do nothing but compute and write.

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
            outcome.cancel()  # a caller that is cancelled gives up what has not begun
        if outcome.cancelled():
            deadline.check(self._database.awaited())
        settled = outcome.result()
        if isinstance(settled, PalaceError):
            raise settled
        return settled

    def submit(self, work: Work[T], deadline: Deadline) -> Future[T]:
        """Queue the unit; cancelling the future gives it up, as long as it has not begun.

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
            self._changed.notify_all()  # whoever is interrupted here may leave a waiter behind that takes one notice
        return unit.outcome

    def statistics(self) -> WriterStatistics:
        """The queue and its history."""
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
        """Commit what waits, then stop; what is left after `timeout` seconds is refused. Idempotent."""
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
        """Call the function inside the transaction. That it refuses is no reason to undo the receipt which says so."""
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
            except BaseException as error:  # noqa: BLE001 (callers get it; without this thread nothing is written)
                for unit in group:
                    unit.refuse(error)

    def _next_group(self) -> list[Unit[Any]]:
        """Everything that waits, up to the limit; empty when closed and drained.

        Clients that ask in turn would fall apart into groups that take turns, each with a commit of its own: so when
        some came while others were committed, the next group waits for a moment until all of them are there again.
        (PostgreSQL's `commit_delay` is for the same.)
        """
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
        """The first of the group is answered, and none of them can have asked again."""
        self._expected = min(self._committing + len(self._queue), GROUP_LIMIT)
