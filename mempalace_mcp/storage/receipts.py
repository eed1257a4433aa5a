"""Receipts: what became of a write is stored with its effect, so that a repetition is answered and not done again.

A receipt is committed in the transaction of its write. There is no moment at which one is durable and the other is not,
whatever dies when: whoever repeats a call under its key gets the answer of the first time. Refusals leave receipts too,
because a call that its caller may have seen refused must not succeed behind its back. What says nothing about the call
itself (a full queue, a full disk, a deadline) leaves none, so that it can be tried again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, Instant
from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import Cancelled, Conflict, PalaceError, StorageError
from mempalace_mcp.core.receipt import IDEMPOTENCY_KEY, ReceiptKey
from mempalace_mcp.storage.transaction import Transaction, Work, Writer
from mempalace_mcp.storage.values import decode, encode

T = TypeVar("T")

KEPT_FOR: Instant = DAY
KEPT_AT_MOST = 100_000


@dataclass(frozen=True, slots=True)
class ReceiptStatistics:
    """Writes with a receipt key since the process began: those done and recorded, those answered from a receipt."""

    recorded: int
    replayed: int


@dataclass(frozen=True, slots=True)
class _Settled:
    """What became of a write: its result, or the error by which it was refused."""

    outcome: Any
    replayed: bool


class ExactlyOnce:
    """A `Writer` before another one: a write whose deadline carries a receipt key is done once, all others as ever."""

    def __init__(self, writer: Writer, now: Callable[[], Instant] = clock.now) -> None:
        self._writer = writer
        self._now = now
        self._lock = threading.Lock()
        self._recorded = 0
        self._replayed = 0

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit, or return what it returned when it was run under the same key.

        Raises:
            Conflict: under this key something else was asked for.
            PalaceError: as the writer behind this one; a refusal also when it was the answer of the first time.
        """
        if deadline.receipt is None:
            return self._writer.write(work, deadline)
        key = deadline.receipt.of_write(deadline.writes)
        settled = self._writer.write(lambda tx: self._settle(tx, work, key), deadline)
        deadline.writes += 1
        self._count(settled)
        if isinstance(settled.outcome, PalaceError):
            raise settled.outcome
        outcome: T = settled.outcome
        return outcome

    def statistics(self) -> ReceiptStatistics:
        """Counts since the process began."""
        with self._lock:
            return ReceiptStatistics(self._recorded, self._replayed)

    def _settle(self, tx: Transaction, work: Work[Any], key: ReceiptKey) -> _Settled:
        answer = _find(tx.connection, key)
        if answer is not None:
            return _Settled(_read(answer), replayed=True)
        try:
            with tx.savepoint():
                outcome = work(tx)
        except PalaceError as error:
            if not _is_verdict(error):
                raise
            outcome = error
        if tx.connection.in_transaction:  # without it the insertion would be durable by itself
            _insert(tx.connection, key, encode(outcome), self._now())
        return _Settled(outcome, replayed=False)

    def _count(self, settled: _Settled) -> None:
        with self._lock:
            self._recorded += not settled.replayed
            self._replayed += settled.replayed


def prune(tx: Transaction, now: Instant, limit: int) -> int:
    """Remove at most `limit` receipts, the oldest ones, if they are past their time or too many; returns how many."""
    (count,) = tx.connection.execute("SELECT count(*) FROM receipts").fetchone()
    oldest = tx.connection.execute(
        "SELECT scope, key, recorded_at FROM receipts ORDER BY recorded_at LIMIT ?", (limit,)
    ).fetchall()
    gone = [
        (scope, key)
        for position, (scope, key, recorded_at) in enumerate(oldest)
        if position < count - KEPT_AT_MOST or recorded_at < now - KEPT_FOR
    ]
    tx.connection.executemany("DELETE FROM receipts WHERE scope = ? AND key = ?", gone)
    return len(gone)


def _find(connection: sqlite3.Connection, key: ReceiptKey) -> str | None:
    """The answer under the key.

    Raises:
        Conflict: it is the answer to another request.
    """
    row = connection.execute(
        "SELECT digest, answer FROM receipts WHERE scope = ? AND key = ?", (key.scope, key.key)
    ).fetchone()
    if row is None:
        return None
    digest, answer = row
    if digest != key.digest:
        raise Conflict(
            "another call was made under the same key; this one was not done",
            argument=IDEMPOTENCY_KEY,
            hint="Give every call a key of its own, such as a UUID, and the same key only to its exact repetition.",
        )
    return str(answer)


def _insert(connection: sqlite3.Connection, key: ReceiptKey, answer: str, now: Instant) -> None:
    connection.execute(
        "INSERT INTO receipts (scope, key, digest, answer, recorded_at) VALUES (?, ?, ?, ?, ?)",
        (key.scope, key.key, key.digest, answer, now),
    )


def _read(answer: str) -> Any:
    try:
        return decode(answer)
    except ValueError as error:
        raise StorageError(
            "this call was settled before, by another version of the program; its answer cannot be read",
            hint="It was not done again. Look at what is stored to see what came of it.",
        ) from error


def _is_verdict(error: PalaceError) -> bool:
    """Does it refuse the call itself, so that trying again would be another call?"""
    return not error.retryable and not isinstance(error, Cancelled | StorageError)
