"""Several units of work in one transaction: how they run, what came of each, and the pauses between attempts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Stamp, Transaction, Unit

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
