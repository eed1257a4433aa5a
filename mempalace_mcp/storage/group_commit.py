"""Several units of work in one transaction: how they run, what came of each, and the pauses between attempts."""

from __future__ import annotations

import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import Busy, PalaceError, StorageError
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Stamp, Transaction, Unit, Work
from mempalace_mcp.storage.word_table import WordsUnreadable

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.1


class TransactionLost(Exception):
    """Raised when the database has ended the transaction by itself, for example on a full disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a unit. Its caller gets it only when the transaction is durable."""

    unit: Unit[Any]
    result: Any = None
    error: BaseException | None = None


class Backoff:
    """Pauses between attempts: exponential with full jitter.

    Formula: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self) -> None:
        self._longest = _FIRST_PAUSE_SECONDS

    def pause(self) -> None:
        """Sleep before the next attempt."""
        time.sleep(random.uniform(0, self._longest))
        self._longest = min(2 * self._longest, _LONGEST_PAUSE_SECONDS)


class GroupConnection(Connection, Protocol):
    """A connection that can end the statements of a unit."""

    def close_cursors(self) -> None:
        """End all statements that were not read to their end."""
        ...


def run_units(
    connection: GroupConnection,
    units: Sequence[Unit[Any]],
    now: Callable[[], Instant],
    is_passing: Callable[[BaseException], bool],
    before: Stamp | None = None,
) -> list[Outcome]:
    """Run the units in the transaction that has begun, and save the last stamp of those that did not fail.

    `before` is the last one saved, if it is known; else it is read. A unit that raises leaves nothing of itself
    behind. With `is_passing` an error says that the whole transaction may succeed later.

    Raises:
        TransactionLost: the database rolled everything back; nothing of any unit is stored.
        Exception: a unit met an error that is passing.
    """
    run = _run_in_savepoint if len(units) > 1 else _run_alone
    outcomes: list[Outcome] = []
    last = before
    for unit in units:
        transaction = Transaction(connection, now, last)
        outcome = run(connection, unit, transaction)
        if outcome.error is not None and is_passing(outcome.error):
            raise outcome.error
        outcomes.append(outcome)
        if outcome.error is None:
            last = transaction.last_stamp
    if last is not None and last is not before:
        last.save(connection)
    return outcomes


def _run_alone(connection: GroupConnection, unit: Unit[Any], transaction: Transaction) -> Outcome:
    try:
        outcome = Outcome(unit, result=unit.work(transaction))
    except BaseException as error:  # noqa: BLE001 (every error is raised in the caller)
        outcome = Outcome(unit, error=error)
    connection.close_cursors()
    if not connection.in_transaction:  # outside it the next statement would commit by itself
        raise TransactionLost from outcome.error
    return outcome


def _run_in_savepoint(connection: GroupConnection, unit: Unit[Any], transaction: Transaction) -> Outcome:
    point = transaction.set_savepoint()
    outcome = _run_alone(connection, unit, transaction)
    if outcome.error is not None:
        connection.execute(f"ROLLBACK TO {point}")
    connection.execute(f"RELEASE {point}")
    return outcome


class GroupDatabase(ABC):
    """How a database settles units of work that it commits together. What one transaction is, each knows itself."""

    failures: ClassVar[tuple[type[Exception], ...]]
    """The errors of its driver."""

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit in a transaction of its own and return its result once it is durable.

        Raises:
            PalaceError: refused by the unit itself, or by storage; then nothing of it was written.
        """
        unit = Unit(work, deadline)
        self.write_group([unit])
        return unit.outcome.result()

    def write_group(self, units: Sequence[Unit[Any]]) -> None:
        """Commit the units together, and settle every one of them. One that fails does not harm the others."""
        longest = max((unit.deadline for unit in units), key=lambda deadline: deadline.remaining)
        try:
            with self._explained(), self._locked(longest):
                begun = [unit for unit in units if unit.begin()]
                if begun:
                    self._commit(begun)
        except PalaceError as error:
            self._refuse(units, error)

    @abstractmethod
    def _locked(self, deadline: Deadline) -> AbstractContextManager[None]:
        """This process's turn at writing.

        Raises:
            PalaceError: it is not to be had in time, or nothing can be written.
        """

    @abstractmethod
    def _attempt(self, units: Sequence[Unit[Any]]) -> list[Outcome]:
        """Commit the units, however often others are in the way, as long as their deadlines allow.

        Raises:
            TransactionLost: nothing of any unit is stored.
            Exception: of `failures`; nothing of any unit is stored.
        """

    @abstractmethod
    def _after_break(self) -> None:
        """A transaction broke, and what is known of its connection with it."""

    @abstractmethod
    def _explain(self, failure: Exception) -> PalaceError:
        """The palace's error for one of `failures`."""

    @abstractmethod
    def _note_refusal(self, error: PalaceError) -> None:
        """Storage, or waiting for it, has refused a write."""

    @property
    def _breaks(self) -> tuple[type[Exception], ...]:
        return TransactionLost, *self.failures

    @property
    def _unusable(self) -> tuple[type[Exception], ...]:
        return WordsUnreadable, *self.failures

    def _commit(self, units: Sequence[Unit[Any]]) -> None:
        """Commit the units together; if the transaction breaks, each alone."""
        try:
            outcomes = self._attempt(units)
        except self._breaks as error:
            self._after_break()
            if len(units) == 1:
                self._refuse(units, self._explanation(error))
                return
            for unit in units:
                self._commit([unit])
        else:
            for outcome in outcomes:
                self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if outcome.error is None:
            outcome.unit.outcome.set_result(outcome.result)
        elif isinstance(outcome.error, self._unusable):
            self._refuse([outcome.unit], self._explanation(outcome.error))
        else:
            outcome.unit.refuse(outcome.error)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._unusable as error:
            raise self._explanation(error) from error

    def _explanation(self, error: BaseException) -> PalaceError:
        cause: BaseException | None = error
        while isinstance(cause, TransactionLost | WordsUnreadable):
            cause = cause.__cause__
        if isinstance(cause, self.failures):
            return self._explain(cause)
        return StorageError("the transaction ended early; nothing was written", hint="Try again.")

    def _refuse(self, units: Sequence[Unit[Any]], error: PalaceError) -> None:
        """Give each caller a copy of the error: the traceback of a shared one would grow in each thread."""
        if isinstance(error, StorageError | Busy):
            self._note_refusal(error)
        for unit in units:
            own = copy(error)
            own.__cause__ = error
            unit.refuse(own)
