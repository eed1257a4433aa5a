"""Units of work become durable: several in one transaction, each in a savepoint of its own."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.failures import is_passing
from mempalace_mcp.storage.transaction import Stamp, Transaction, Unit

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.1


class TransactionLost(Exception):
    """Raised when SQLite has ended the transaction by itself, as a full disk makes it do: nothing may follow in it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a unit came to, told to its caller only when the transaction is durable."""

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


def commit_units(
    connection: Connection,
    units: Sequence[Unit[Any]],
    now: Callable[[], Instant],
    verify: Callable[[sqlite3.Connection], None],
) -> list[Outcome]:
    """Run the units in one transaction and commit it. A unit that raises leaves nothing of itself behind.

    `verify` looks at the palace inside the transaction, before the first unit.

    Raises:
        TransactionLost: SQLite rolled everything back; nothing of any unit is stored.
        sqlite3.Error: `BEGIN` or `COMMIT` failed, or another connection was in the way; nothing is stored.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        verify(connection)
        outcomes = _run(connection, units, now)
        connection.execute("COMMIT" if any(outcome.error is None for outcome in outcomes) else "ROLLBACK")
    except BaseException:  # nothing may stay begun
        connection.roll_back()
        raise
    return outcomes


def _run(connection: Connection, units: Sequence[Unit[Any]], now: Callable[[], Instant]) -> list[Outcome]:
    """Run each of them, and save the last stamp of those that did not fail, once for all."""
    run = _run_in_savepoint if len(units) > 1 else _run_alone
    outcomes: list[Outcome] = []
    last: Stamp | None = None
    for unit in units:
        transaction = Transaction(connection, now, last)
        outcome = run(connection, unit, transaction)
        outcomes.append(outcome)
        if outcome.error is None:
            last = transaction.last_stamp
    if last is not None:
        last.save(connection)
    return outcomes


def _run_alone(connection: Connection, unit: Unit[Any], transaction: Transaction) -> Outcome:
    try:
        outcome = Outcome(unit, result=unit.work(transaction))
    except BaseException as error:  # noqa: BLE001 (whatever it is belongs to the caller, who gets it)
        outcome = Outcome(unit, error=error)
    connection.close_cursors()
    _verify_transaction(connection, outcome.error)
    return outcome


def _run_in_savepoint(connection: Connection, unit: Unit[Any], transaction: Transaction) -> Outcome:
    point = transaction.here()
    outcome = _run_alone(connection, unit, transaction)
    if outcome.error is not None:
        connection.execute(f"ROLLBACK TO {point}")
    connection.execute(f"RELEASE {point}")
    return outcome


def _verify_transaction(connection: sqlite3.Connection, error: BaseException | None) -> None:
    """Go on only inside the transaction: without it the next statement would commit by itself."""
    if not connection.in_transaction:
        raise TransactionLost from error
    if isinstance(error, sqlite3.Error) and is_passing(error):
        raise error
