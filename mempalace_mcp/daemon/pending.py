"""The messages of a client that are not settled. When the daemon dies, the next one is sent them again.

A message is settled by its answer; one that has none, by the daemon's word that it is done.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping

MAX_BYTES = 64 * 1024 * 1024
"""Of all entries: a client may send so much before it reads its first answer."""

ENTRY_BYTES = 1024
"""What an entry takes beside its line."""

DEATHS_UNTIL_QUARANTINE = 2
"""A message is suspected when so many daemons died while it was sent and unsettled."""

DEATHS_IN_QUARANTINE = 2
"""A message is poison when so many daemons died while it ran alone."""

_PARSED_BYTES = 64 * 1024
"""Longer lines are parsed only when a cancellation comes: they are tool calls with texts."""

_MAX_STATE = 1024

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"
LISTEN = "subscriptions/listen"
_STATEFUL = (INITIALIZE, INITIALIZED, "logging/setLevel", "resources/list")
"""The last message of each is part of the session's state. (A client that has listed the resources is notified when
the list changes.)"""
_SUBSCRIBE = "resources/subscribe"
_UNSUBSCRIBE = "resources/unsubscribe"

Key = tuple[type, str | int | float]
"""The id of a request with its type: `"7"` and `7` are two."""


class PendingRequest:
    """One message of the client, or one that the bridge replays to give a new daemon the session's state (`replayed`).

    `is_request`: it will be answered. A line that cannot be parsed is one, too: a refusal answers it.
    `is_ordered`: the requests before it must be sent first.
    `is_standing`: a request that stays open as long as the session, so its answer is not waited for.
    `redelivered`: an earlier daemon had it.
    `running_alone`: a daemon runs it with no other suspected message beside it.
    `deaths`: daemons that died while it was sent and unsettled; `deaths_alone`, of these, while it ran alone.
    """

    __slots__ = (
        "cancelled",
        "deaths",
        "deaths_alone",
        "is_ordered",
        "is_request",
        "is_standing",
        "key",
        "line",
        "method",
        "redelivered",
        "replayed",
        "running_alone",
        "sent",
        "sequence",
    )

    def __init__(self, sequence: int, line: bytes, *, replayed: bool = False) -> None:
        message = {"method": "tools/call", "id": None} if len(line) > _PARSED_BYTES else parse(line)
        self.sequence = sequence
        self.line = line
        self.replayed = replayed
        self.method = message.get("method")
        self.is_standing = self.method == LISTEN
        self.is_request = ("id" in message or not message) and not self.is_standing
        self.is_ordered = self.is_request or self.method == INITIALIZED
        self.key = _key(message)
        self.sent = False
        self.redelivered = replayed
        self.running_alone = False
        self.cancelled = False
        self.deaths = 0
        self.deaths_alone = 0

    @property
    def is_suspected(self) -> bool:
        """May it be what kills daemons?"""
        return self.deaths >= DEATHS_UNTIL_QUARANTINE

    @property
    def is_poison(self) -> bool:
        """Has it killed daemons while it ran alone?"""
        return self.deaths_alone >= DEATHS_IN_QUARANTINE

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.line) + ENTRY_BYTES

    def parameter(self, name: str) -> object:
        """One of its parameters."""
        parameters = parse(self.line).get("params")
        return parameters.get(name) if isinstance(parameters, dict) else None


def _key(message: Mapping[str, object]) -> Key | None:
    value = message.get("id") if "method" in message else None
    return (type(value), value) if isinstance(value, str | int | float) else None


def parse(line: bytes) -> Mapping[str, object]:
    """The message; empty if it cannot be parsed, which the daemon answers."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class PendingRequests:
    """The unsettled messages in their order, and the session's state for the next daemon. Thread-safe.

    Bounded: `add` waits while there is no room.
    """

    def __init__(self) -> None:
        self._entries: dict[int, PendingRequest] = {}
        self._ordered: dict[int, PendingRequest] = {}
        """Not sent: requests, and messages that must stay in order with them."""
        self._others: dict[int, PendingRequest] = {}
        """Not sent: messages that may overtake waiting requests."""
        self._by_key: dict[Key, list[PendingRequest]] = {}
        self._unparsed: dict[int, PendingRequest] = {}
        """Long lines, whose ids are not known yet."""
        self._bytes = self._standing = self._last = 0
        self._state: dict[object, bytes] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.outstanding = 0
        """Requests sent and not settled."""

    def add(self, line: bytes, *, replayed: bool = False) -> PendingRequest:
        """Add a message. A cancellation removes its request if that was not sent, else marks it as cancelled."""
        with self._lock:
            if self._bytes >= MAX_BYTES and not replayed:
                self._changed.wait_for(lambda: self._bytes < MAX_BYTES)
            self._last += 1
            entry = PendingRequest(self._last, line, replayed=replayed)
            self._insert(entry)
            if entry.method == CANCELLED:
                self._cancel(_key({"method": CANCELLED, "id": entry.parameter("requestId")}))
            self._changed.notify_all()
        return entry

    def send_next(self, *, requests: bool) -> PendingRequest | None:
        """The next message to send, marked as sent; a request only if `requests` allows."""
        with self._lock:
            first = next(iter(self._ordered.values()), None)
            if first is not None and first.is_request and not requests:
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
        """Mark as sent. Call it before sending: the answer may arrive at once."""
        with self._lock:
            self._queue(entry).pop(entry.sequence, None)
            entry.sent = True
            self.outstanding += entry.is_request

    def settle(self, sequence: int, answer: bytes = b"") -> PendingRequest | None:
        """Remove a message that the daemon is done with; its entry, or None if there is none."""
        with self._lock:
            entry = self._entries.get(sequence)
            if entry is not None:
                self._remove(entry)
                if not entry.replayed:
                    self._remember(entry, answer)
                self._changed.notify_all()
        return entry

    def refuse(self, sequence: int) -> PendingRequest | None:
        """Remove a message that the bridge answers itself, as there is no daemon.

        The handshake is replayed to the next daemon all the same: a client that goes on does not repeat it.
        """
        entry = self.settle(sequence, b'{"error":0}')
        if entry is not None and entry.method in (INITIALIZE, INITIALIZED):
            self._state[entry.method] = entry.line
        return entry

    def in_flight(self) -> list[PendingRequest]:
        """All unsettled messages, oldest first."""
        with self._lock:
            return list(self._entries.values())

    @property
    def has_unsent(self) -> bool:
        """Does a message wait to be sent?"""
        return bool(self._ordered or self._others)

    @property
    def is_empty(self) -> bool:
        """Is everything settled, standing requests too?"""
        return not self._entries

    def find(self, sequence: int) -> PendingRequest | None:
        """The entry with that sequence number, if it is unsettled."""
        return self._entries.get(sequence)

    @property
    def is_initialized(self) -> bool:
        """Has the client sent `notifications/initialized`?"""
        return INITIALIZED in self._state

    def replay(self) -> Iterator[PendingRequest]:
        """Entries that give a new daemon the session's state; those of an earlier replay are dropped."""
        for entry in self.in_flight():
            if entry.replayed:
                self.settle(entry.sequence)
        for line in list(self._state.values()):
            yield self.add(line, replayed=True)

    def requeue_after_death(self) -> None:
        """The daemon died: count that for the messages it had, and queue them again."""
        for entry in self.in_flight():
            entry.deaths += entry.sent and not entry.is_standing
            entry.deaths_alone += entry.running_alone
        self.requeue()

    def requeue(self) -> None:
        """The connection is gone: queue all messages again, except cancelled ones and cancellations."""
        with self._lock:
            self._ordered.clear()
            self._others.clear()
            self.outstanding = 0
            for entry in list(self._entries.values()):
                entry.redelivered |= entry.sent
                entry.sent = entry.running_alone = False
                if entry.cancelled or entry.method == CANCELLED:
                    self._remove(entry)
                else:
                    self._queue(entry)[entry.sequence] = entry
            self._changed.notify_all()

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until everything is settled; False if that took longer."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._has_work(), seconds)

    def drain(self, seconds: float) -> bool:
        """Wait until everything is settled; False once nothing happened for so many seconds."""
        with self._lock:
            while self._has_work():
                if not self._changed.wait(seconds):
                    return False
        return True

    def wait_until_needed(self, seconds: float | None = None) -> bool:
        """Wait until there is an unsettled message; False if that took longer."""
        with self._lock:
            return self._changed.wait_for(self._has_work, seconds)

    def _has_work(self) -> bool:
        return len(self._entries) > self._standing

    def _queue(self, entry: PendingRequest) -> dict[int, PendingRequest]:
        return self._ordered if entry.is_ordered else self._others

    def _insert(self, entry: PendingRequest) -> None:
        self._entries[entry.sequence] = self._queue(entry)[entry.sequence] = entry
        self._bytes += entry.size
        self._standing += entry.is_standing
        if len(entry.line) > _PARSED_BYTES:
            self._unparsed[entry.sequence] = entry
        elif entry.key is not None:
            self._by_key.setdefault(entry.key, []).append(entry)

    def _remove(self, entry: PendingRequest) -> None:
        del self._entries[entry.sequence]
        self._queue(entry).pop(entry.sequence, None)
        self._unparsed.pop(entry.sequence, None)
        self._bytes -= entry.size
        self._standing -= entry.is_standing
        self.outstanding -= entry.sent and entry.is_request
        if entry.key is not None:
            namesakes = self._by_key[entry.key]
            namesakes.remove(entry)
            if not namesakes:
                del self._by_key[entry.key]

    def _cancel(self, key: Key | None) -> None:
        """Mark a request that was sent, so that no other daemon gets it; remove one that was not."""
        for entry in self._unparsed.values():
            entry.key = _key(parse(entry.line))
            if entry.key is not None:
                self._by_key.setdefault(entry.key, []).append(entry)
        self._unparsed.clear()
        for entry in list(self._by_key.get(key, ())) if key is not None else ():
            entry.cancelled = True
            if not entry.sent:
                self._remove(entry)

    def _remember(self, entry: PendingRequest, answer: bytes) -> None:
        """Keep a message that changes the session's state, once it was answered without an error."""
        if entry.method not in (*_STATEFUL, _SUBSCRIBE, _UNSUBSCRIBE) or "error" in parse(answer or b"{}"):
            return
        if entry.method in _STATEFUL:
            self._state[entry.method] = entry.line
        elif entry.method == _SUBSCRIBE and len(self._state) < _MAX_STATE:
            self._state[_SUBSCRIBE, str(entry.parameter("uri"))] = entry.line
        elif entry.method == _UNSUBSCRIBE:
            self._state.pop((_SUBSCRIBE, str(entry.parameter("uri"))), None)
