"""Units of work, and the records that make a repeated write idempotent.

Such a record, in the table `receipts`, holds the outcome of a write and is committed in the transaction of the write.
So there is no moment at which only one of them is durable, and a call repeated under its key gets its first answer.
Refusals are recorded too: a call that was seen refused must not succeed later. Failures that are not about the call
itself (a full queue, a full disk, a deadline) are not recorded, so the call can be tried again.

Outcomes are stored as JSON, made of the values of `core.model` and the errors of `core.errors`. A JSON object has one
member, the name of a type, and its value holds the parts:

    [{"Filed": {"drawer_id": "d_06...", "created": true, "near_duplicate_of": null}}]

Names are looked up in a closed table, so stored text can make nothing but values.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from inspect import signature
from types import MappingProxyType, NoneType
from typing import Any, Generic, Protocol, TypeVar

from mempalace_mcp.core import clock, errors, model
from mempalace_mcp.core.call_context import IDEMPOTENCY_KEY, Deadline, IdempotencyKey
from mempalace_mcp.core.clock import DAY, Instant
from mempalace_mcp.core.errors import Cancelled, Conflict, PalaceError, StorageError
from mempalace_mcp.core.figures import counter
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage.connection import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The number and the instant of a unit of work; both strictly increase from unit to unit."""

    seq: int
    instant: Instant

    @staticmethod
    def last(connection: Connection) -> Stamp:
        """Of the last unit of work that changed something."""
        return Stamp(*connection.execute("SELECT seq, recorded_at FROM state").fetchone())

    def following(self, now: Instant) -> Stamp:
        """The next one: of this instant, unless the clock was set back."""
        return Stamp(self.seq + 1, max(now, self.instant + 1))

    def save(self, connection: Connection) -> None:
        """Make it the last one."""
        connection.execute("UPDATE state SET seq = ?, recorded_at = ?", (self.seq, self.instant))


class Transaction:
    """What a unit of work sees: the connection, inside a transaction that holds the write lock, and its stamp.

    A unit of work may run more than once (a retry, a group that broke apart), so it must do nothing but read and
    write through `connection`.
    """

    def __init__(self, connection: Connection, now: Callable[[], Instant], before: Stamp | None = None) -> None:
        """`before`: the last stamp drawn by the units that are committed together with this one, if there is one."""
        self.connection = connection
        self._now = now
        self._before = before
        self._stamp: Stamp | None = None
        self._point: str | None = None
        """The last savepoint."""
        self._changes = 0
        """`connection.changed` at the last savepoint."""
        self._points = 0

    @property
    def stamp(self) -> Stamp:
        """Drawn when first asked for: a unit that changes nothing leaves no mark."""
        return self._stamp or self.mark_changed()

    def mark_changed(self) -> Stamp:
        """Draw the stamp if that is not done yet, and return it. A change that stores no stamp must call it."""
        if self._stamp is None:
            self._stamp = (self._before or Stamp.last(self.connection)).following(self._now())
        return self._stamp

    def advance(self, instant: Instant) -> None:
        """Let the stamp be no earlier than an instant that the unit stores, as of a palace whose clock was ahead."""
        stamp = self.mark_changed()
        self._stamp = Stamp(stamp.seq, max(stamp.instant, instant))

    @property
    def last_stamp(self) -> Stamp | None:
        """The last one drawn, by this unit or by one before it; to be saved before they are committed."""
        return self._stamp or self._before

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the unit: if the block raises, its changes are rolled back, and the unit may go on.

        It must not go on when the database has ended the whole transaction; `connection.in_transaction` tells.
        A statement that writes must have been read to its end before the block begins.
        """
        stamp, point = self._stamp, self.set_savepoint()
        try:
            yield
        except BaseException:
            self._stamp = stamp
            if self.connection.in_transaction:
                self.connection.execute(f"ROLLBACK TO {point}")
                self._point, self._changes = point, self.connection.changed
            raise

    def set_savepoint(self) -> str:
        """Set a savepoint and return its name; the last one is used again as long as nothing was written after it."""
        changes = self.connection.changed
        if self._point is None or changes != self._changes:
            self._points += 1
            point = f"point_{self._points}"  # not used twice: savepoints end with the unit and may be nested
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

        From then on the caller cannot give up: it must wait for the outcome.
        """
        return self.outcome.set_running_or_notify_cancel()

    def in_time(self, waiting_for: str) -> bool:
        """True if the deadline of a begun unit has not passed; otherwise the unit fails with that error."""
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


_CORE = "mempalace_mcp.core."
_SCALARS = frozenset({NoneType, bool, int, float, str})
_KINDS: Mapping[str, type] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (Name, *vars(model).values(), *vars(errors).values())
        if isinstance(kind, type) and kind.__module__.startswith(_CORE)
    }
)
_PARTS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {kind: ("value",) if issubclass(kind, Enum) else tuple(signature(kind).parameters) for kind in _KINDS.values()}
)
"""The parts of a type: the parameters of its constructor, which are also its attributes."""


def encode(value: object) -> str:
    """The value as text.

    Raises:
        TypeError: it is, or holds, something of another type.
    """
    return json.dumps(_to_json(value), separators=(",", ":"))


def decode(text: str) -> Any:
    """The value that was encoded.

    Raises:
        ValueError: it was not, or by a version that knew other types.
    """
    try:
        return _from_json(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"this stands for no value: {error!r}") from error


def _to_json(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_to_json(each) for each in value]
    return {kind.__name__: _content(kind, value)}


def _content(kind: type, value: Any) -> Any:
    if kind is tuple:
        return [_to_json(each) for each in value]
    if kind is bytes:
        return base64.b64encode(value).decode("ascii")
    if kind is dict and all(type(key) is str for key in value):
        return {key: _to_json(each) for key, each in value.items()}
    if kind in _PARTS:
        return {part: _to_json(getattr(value, part)) for part in _PARTS[kind]}
    raise TypeError(f"this type has no text: {kind.__name__}")


def _from_json(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_from_json(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((name, content),) = plain.items()
    if name == "tuple":
        return tuple(_from_json(content))
    if name == "bytes":
        return base64.b64decode(content, validate=True)
    parts = {key: _from_json(each) for key, each in content.items()}
    return parts if name == "dict" else _KINDS[name](**parts)


KEPT_FOR: Instant = DAY
KEPT_AT_MOST = 100_000


@dataclass(frozen=True, slots=True)
class IdempotencyStatistics:
    """Writes under an idempotency key since the process began: run and recorded, answered from a record."""

    recorded: int = field(metadata=counter("receipts_recorded", "Writes done under a receipt."))
    replayed: int = field(metadata=counter("receipts_replayed", "Writes answered from a receipt."))


@dataclass(frozen=True, slots=True)
class _Settled:
    """The outcome of a write: its result, or the error by which it was refused."""

    outcome: Any
    replayed: bool


class IdempotentWriter:
    """Wraps a `Writer`: a write under an idempotency key runs once, other writes are passed on."""

    def __init__(self, writer: Writer, now: Callable[[], Instant] = clock.now) -> None:
        self._writer = writer
        self._now = now
        self._lock = threading.Lock()
        self._recorded = 0
        self._replayed = 0

    def write(self, work: Work[T], deadline: Deadline) -> T:
        """Run the unit, or return what it returned when it was run under the same key.

        Raises:
            Conflict: another request was made under this key.
            PalaceError: as the wrapped writer; a recorded refusal is raised again.
        """
        if deadline.idempotency_key is None:
            return self._writer.write(work, deadline)
        key = deadline.idempotency_key.of_write(deadline.writes)
        settled = self._writer.write(lambda tx: self._settle(tx, work, key), deadline)
        deadline.writes += 1
        self._count(settled)
        if isinstance(settled.outcome, PalaceError):
            raise settled.outcome
        outcome: T = settled.outcome
        return outcome

    def statistics(self) -> IdempotencyStatistics:
        """Counts since the process began."""
        with self._lock:
            return IdempotencyStatistics(self._recorded, self._replayed)

    def _settle(self, tx: Transaction, work: Work[Any], key: IdempotencyKey) -> _Settled:
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
        if tx.connection.in_transaction:  # outside a transaction the insertion would commit by itself
            _insert(tx.connection, key, encode(outcome), self._now())
        return _Settled(outcome, replayed=False)

    def _count(self, settled: _Settled) -> None:
        with self._lock:
            self._recorded += not settled.replayed
            self._replayed += settled.replayed


def prune(tx: Transaction, now: Instant, limit: int) -> int:
    """Remove at most `limit` of the oldest records if they are expired or too many; returns how many."""
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


def _find(connection: Connection, key: IdempotencyKey) -> str | None:
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


def _insert(connection: Connection, key: IdempotencyKey, answer: str, now: Instant) -> None:
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
    """Does the error refuse the call itself, so that the same call would be refused again?"""
    return not error.retryable and not isinstance(error, Cancelled | StorageError)
