"""What a client has sent and has no answer to yet: so much of it must reach the next daemon when this one dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping

MAX_BYTES = 64 * 1024 * 1024
"""Of all entries. A client may say so much before it reads its first answer."""

ENTRY_BYTES = 1024
"""What an entry takes beside its line."""

_PARSED_BYTES = 64 * 1024
"""Longer lines are parsed only when it must be: they are calls that carry texts, never the ones that a bridge knows."""
_MAX_KEPT = 1024

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"
LISTEN = "subscriptions/listen"
_STATEFUL = (INITIALIZE, INITIALIZED, "logging/setLevel", "resources/list")
"""What was said last of each counts. Whoever has listed the resources is told when the list has changed."""
_SUBSCRIBE = "resources/subscribe"
_UNSUBSCRIBE = "resources/unsubscribe"

Key = tuple[type, str | int | float]
"""The id of a request with its type: `"7"` and `7` are two."""


class PendingRequest:
    """One message of the client, or one that the bridge repeats on its own behalf (`own`).

    `is_request`: it will be answered soon, as far as can be told. What cannot be read will be, with a refusal.
    `is_standing`: a request that stays open while the session lives, so that nobody waits for its answer.
    """

    __slots__ = (
        "again",
        "alone",
        "cancelled",
        "deaths",
        "deaths_alone",
        "is_request",
        "is_standing",
        "key",
        "line",
        "method",
        "own",
        "sent",
        "sequence",
    )

    def __init__(self, sequence: int, line: bytes, *, own: bool = False) -> None:
        message = {"method": "tools/call", "id": None} if len(line) > _PARSED_BYTES else parse(line)
        self.sequence = sequence
        self.line = line
        self.own = own
        self.method = message.get("method")
        self.is_standing = self.method == LISTEN
        self.is_request = ("id" in message or not message) and not self.is_standing
        self.key = _key(message)
        self.sent = False
        self.again = own
        self.alone = False
        self.cancelled = False
        self.deaths = 0
        self.deaths_alone = 0

    @property
    def keeps_its_place(self) -> bool:
        """Must it not be sent before the requests that came before it?"""
        return self.is_request or self.method == INITIALIZED

    @property
    def size(self) -> int:
        """What it takes of the journal's room."""
        return len(self.line) + ENTRY_BYTES

    def parameter(self, name: str) -> object:
        """One of its parameters."""
        parameters = parse(self.line).get("params")
        return parameters.get(name) if isinstance(parameters, dict) else None


def _key(message: Mapping[str, object]) -> Key | None:
    value = message.get("id") if "method" in message else None
    return (type(value), value) if isinstance(value, str | int | float) else None


def parse(line: bytes) -> Mapping[str, object]:
    """The message; empty if it cannot be read, which is for the daemon to answer."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class PendingRequests:
    """The entries in flight in their order, and what the next daemon must be told of the session. Thread-safe.

    Bounded: `add` waits while there is no room.
    """

    def __init__(self) -> None:
        self._entries: dict[int, PendingRequest] = {}
        self._ordered: dict[int, PendingRequest] = {}
        """Not sent: requests, and what keeps its place among them."""
        self._others: dict[int, PendingRequest] = {}
        """Not sent, and may overtake requests that wait."""
        self._named: dict[Key, list[PendingRequest]] = {}
        self._long: dict[int, PendingRequest] = {}
        """Their lines were not parsed: what they are called is found out when it matters."""
        self._bytes = self._standing = self._last = 0
        self._told: dict[object, bytes] = {}
        self._changed = threading.Condition()
        self.outstanding = 0
        """Requests sent and not settled."""

    def add(self, line: bytes, *, own: bool = False) -> PendingRequest:
        """The entry of a new message; a cancellation ends the request that it is about, or marks it as ending."""
        with self._changed:
            self._changed.wait_for(lambda: own or self._bytes < MAX_BYTES)
            self._last += 1
            entry = PendingRequest(self._last, line, own=own)
            self._enter(entry)
            if entry.method == CANCELLED:
                self._cancel(_key({"method": CANCELLED, "id": entry.parameter("requestId")}))
            self._changed.notify_all()
        return entry

    def send_next(self, *, ask: bool) -> PendingRequest | None:
        """What is to be sent next, noted as sent; requests only if they may be asked now."""
        with self._changed:
            first = next(iter(self._ordered.values()), None)
            if first is not None and first.is_request and not ask:
                first = None
            other = next(iter(self._others.values()), None)
            if first is not None and other is not None:
                entry: PendingRequest | None = min(first, other, key=lambda entry: entry.sequence)
            else:
                entry = first or other
            if entry is not None:
                self.note_sent(entry)
            return entry

    def note_sent(self, entry: PendingRequest) -> None:
        """The message is on its way. To be noted before it goes: its answer may be as fast."""
        with self._changed:
            self._queue(entry).pop(entry.sequence, None)
            entry.sent = True
            self.outstanding += entry.is_request

    def settle(self, sequence: int, answer: bytes = b"") -> PendingRequest | None:
        """The daemon is done with a message; its entry, or None if it was none of ours."""
        with self._changed:
            entry = self._entries.get(sequence)
            if entry is not None:
                self._leave(entry)
                if not entry.own:
                    self._note(entry, answer)
                self._changed.notify_all()
        return entry

    def refuse(self, sequence: int) -> PendingRequest | None:
        """The bridge answers a message itself, as there is no daemon. What begins a session is said to the next one:
        a client that goes on all the same does not say it again."""
        entry = self.settle(sequence, b'{"error":0}')
        if entry is not None and entry.method in (INITIALIZE, INITIALIZED):
            self._told[entry.method] = entry.line
        return entry

    def in_flight(self) -> list[PendingRequest]:
        """All that is unsettled, oldest first."""
        with self._changed:
            return list(self._entries.values())

    @property
    def is_empty(self) -> bool:
        """Is everything settled, standing requests too?"""
        return not self._entries

    def find(self, sequence: int) -> PendingRequest | None:
        """The entry of that number, if it is in flight."""
        return self._entries.get(sequence)

    @property
    def greeted(self) -> bool:
        """Has the client said that the handshake is done?"""
        return INITIALIZED in self._told

    def replay(self) -> Iterator[PendingRequest]:
        """Entries of our own for a new daemon, that bring it to where the old one was; earlier ones are dropped."""
        for entry in self.in_flight():
            if entry.own:
                self.settle(entry.sequence)
        for line in list(self._told.values()):
            yield self.add(line, own=True)

    def lost(self) -> None:
        """The daemon has died: what it had is to be sent again, what was cancelled is not."""
        for entry in self.in_flight():
            entry.deaths += entry.sent and not entry.is_standing
            entry.deaths_alone += entry.alone
        self.unsent()

    def unsent(self) -> None:
        """The connection is gone, with no harm done: all is to be sent again."""
        with self._changed:
            self._ordered.clear()
            self._others.clear()
            self.outstanding = 0
            for entry in list(self._entries.values()):
                entry.again |= entry.sent
                entry.sent = entry.alone = False
                if entry.cancelled or entry.method == CANCELLED:
                    self._leave(entry)
                else:
                    self._queue(entry)[entry.sequence] = entry
            self._changed.notify_all()

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until everything is settled; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), seconds)

    def wait_while_it_empties(self, seconds: float) -> bool:
        """Wait until everything is settled; False if nothing happened for so long."""
        with self._changed:
            while self._has_work():
                if not self._changed.wait(seconds):
                    return False
        return True

    def wait_until_needed(self, seconds: float | None = None) -> bool:
        """Wait until something is in flight; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(self._has_work, seconds)

    def _has_work(self) -> bool:
        return len(self._entries) > self._standing

    def _queue(self, entry: PendingRequest) -> dict[int, PendingRequest]:
        return self._ordered if entry.keeps_its_place else self._others

    def _enter(self, entry: PendingRequest) -> None:
        self._entries[entry.sequence] = self._queue(entry)[entry.sequence] = entry
        self._bytes += entry.size
        self._standing += entry.is_standing
        if len(entry.line) > _PARSED_BYTES:
            self._long[entry.sequence] = entry
        elif entry.key is not None:
            self._named.setdefault(entry.key, []).append(entry)

    def _leave(self, entry: PendingRequest) -> None:
        del self._entries[entry.sequence]
        self._queue(entry).pop(entry.sequence, None)
        self._long.pop(entry.sequence, None)
        self._bytes -= entry.size
        self._standing -= entry.is_standing
        self.outstanding -= entry.sent and entry.is_request
        if entry.key is not None:
            namesakes = self._named[entry.key]
            namesakes.remove(entry)
            if not namesakes:
                del self._named[entry.key]

    def _cancel(self, key: Key | None) -> None:
        """What was sent is marked, so that no other daemon is given it; what was not sent is never done."""
        for entry in self._long.values():
            entry.key = _key(parse(entry.line))
            if entry.key is not None:
                self._named.setdefault(entry.key, []).append(entry)
        self._long.clear()
        for entry in list(self._named.get(key, ())) if key is not None else ():
            entry.cancelled = True
            if not entry.sent:
                self._leave(entry)

    def _note(self, entry: PendingRequest, answer: bytes) -> None:
        """Remember what gives a session its state, once it has been granted."""
        if entry.method not in (*_STATEFUL, _SUBSCRIBE, _UNSUBSCRIBE) or "error" in parse(answer or b"{}"):
            return
        if entry.method in _STATEFUL:
            self._told[entry.method] = entry.line
        elif entry.method == _SUBSCRIBE and len(self._told) < _MAX_KEPT:
            self._told[_SUBSCRIBE, str(entry.parameter("uri"))] = entry.line
        elif entry.method == _UNSUBSCRIBE:
            self._told.pop((_SUBSCRIBE, str(entry.parameter("uri"))), None)
