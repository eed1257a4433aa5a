"""One unit of work on the truth, and who may run it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import PalaceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The number and the instant of a unit of work; both strictly increase from unit to unit."""

    seq: int
    instant: Instant

    @staticmethod
    def last(connection: sqlite3.Connection) -> Stamp:
        """Of the last unit of work that changed something."""
        return Stamp(*connection.execute("SELECT seq, recorded_at FROM state").fetchone())

    def following(self, now: Instant) -> Stamp:
        """The next one: of this instant, unless the clock was set back."""
        return Stamp(self.seq + 1, max(now, self.instant + 1))

    def save(self, connection: sqlite3.Connection) -> None:
        """Make it the last one."""
        connection.execute("UPDATE state SET seq = ?, recorded_at = ?", (self.seq, self.instant))


class Transaction:
    """What a unit of work sees: the connection, inside `BEGIN IMMEDIATE`, and its stamp.

    A unit of work may run more than once (a retry, a group that broke apart), so it must do nothing but read and
    write through `connection`.
    """

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], Instant], before: Stamp | None = None) -> None:
        """`before`: the last stamp drawn by the units that are committed together with this one, if there is one."""
        self.connection = connection
        self._now = now
        self._before = before
        self._stamp: Stamp | None = None
        self._point: str | None = None
        """The last savepoint."""
        self._changes = 0
        """What the connection had changed when it was there."""
        self._points = 0

    @property
    def stamp(self) -> Stamp:
        """Drawn when first asked for: a unit that changes nothing leaves no mark."""
        if self._stamp is None:
            self._stamp = (self._before or Stamp.last(self.connection)).following(self._now())
        return self._stamp

    @property
    def last_stamp(self) -> Stamp | None:
        """The last one drawn, by this unit or by one before it; to be saved before they are committed."""
        return self._stamp or self._before

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the unit: what raises out of the block leaves nothing of itself behind, and the unit may go on.

        It may not go on when SQLite has ended the whole transaction meanwhile; `connection.in_transaction` tells.
        A statement that writes must have been read to its end before the part begins.
        """
        stamp, point = self._stamp, self.here()
        try:
            yield
        except BaseException:
            self._stamp = stamp
            if self.connection.in_transaction:
                self.connection.execute(f"ROLLBACK TO {point}")
                self._point, self._changes = point, self.connection.total_changes
            raise

    def here(self) -> str:
        """The name of a savepoint for this place: the last one, as long as nothing was written after it."""
        changes = self.connection.total_changes
        if self._point is None or changes != self._changes:
            self._points += 1
            point = f"point_{self._points}"  # a name of its own: it ends with the unit, and others may begin inside it
            self.connection.execute(f"SAVEPOINT {point}")
            self._point, self._changes = point, changes
        return self._point


Work = Callable[[Transaction], T]


class Writer(Protocol):
    """Runs units of work: the database itself, or the thread that commits several together."""

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit in a transaction of its own and return its result once it is durable.

        Raises:
            PalaceError: refused by the unit itself, or by storage; then nothing of it was written.
        """
        ...


class Unit(Generic[T]):
    """A unit of work on its way, with the deadline of its caller; `outcome` is settled exactly once."""

    def __init__(self, work: Work[T], deadline: Deadline) -> None:
        self.work = work
        self.deadline = deadline
        self.outcome: Future[T] = Future()

    def begin(self) -> bool:
        """Claim the unit for running; False if its caller has given up.

        From here on the caller can no longer give up: it must wait for the outcome.
        """
        return self.outcome.set_running_or_notify_cancel()

    def in_time(self, waiting_for: str) -> bool:
        """May the unit, once begun, still run? Otherwise its caller hears that its time is over."""
        try:
            self.deadline.check(waiting_for)
        except PalaceError as error:
            self.outcome.set_exception(error)
            return False
        return True

    def refuse(self, error: BaseException) -> None:
        """Settle the unit with an error, unless it is settled or given up already."""
        if self.outcome.done() or (not self.outcome.running() and not self.begin()):
            return
        self.outcome.set_exception(error)
