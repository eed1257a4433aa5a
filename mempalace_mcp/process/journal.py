"""What a client has sent and has no answer to yet: so much of it must reach the next daemon when this one dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping

MAX_ENTRIES = 256
MAX_BYTES = 64 * 1024 * 1024
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


class Entry:
    """One message of the client, or one that the bridge repeats on its own behalf (`own`)."""

    __slots__ = ("again", "alone", "cancelled", "deaths", "deaths_alone", "line", "message", "own", "sent", "sequence")

    def __init__(self, sequence: int, line: bytes, *, own: bool = False) -> None:
        self.sequence = sequence
        self.line = line
        self.own = own
        self.message = parse(line) if len(line) <= _PARSED_BYTES else {"method": "tools/call", "id": None}
        self.sent = False
        self.again = own
        self.alone = False
        self.cancelled = False
        self.deaths = 0
        self.deaths_alone = 0

    @property
    def method(self) -> object:
        """The method, if the line has one that is known."""
        return self.message.get("method")

    @property
    def is_standing(self) -> bool:
        """Is it a request that stays open while the session lives, so that nobody waits for its answer?"""
        return self.method == LISTEN

    @property
    def is_request(self) -> bool:
        """Will it be answered soon, as far as can be told? What cannot be read will be, with a refusal."""
        return ("id" in self.message or not self.message) and not self.is_standing

    def has_id(self, value: object) -> bool:
        """Is it the request of that id? `"7"` and `7` are two."""
        message = self.message if len(self.line) <= _PARSED_BYTES else parse(self.line)
        return message.keys() >= {"method", "id"} and type(message["id"]) is type(value) and message["id"] == value

    def parameter(self, name: str) -> object:
        """One of its parameters."""
        parameters = self.message.get("params")
        return parameters.get(name) if isinstance(parameters, dict) else None


def parse(line: bytes) -> Mapping[str, object]:
    """The message; empty if it cannot be read, which is for the daemon to answer."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class Journal:
    """The entries in flight in their order, and what the next daemon must be told of the session. Thread-safe.

    Bounded: `add` waits while there is no room.
    """

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._last = 0
        self._told: dict[object, bytes] = {}
        self._changed = threading.Condition()

    def add(self, line: bytes, *, own: bool = False) -> Entry:
        """The entry of a new message; a cancellation ends the request that it is about, or marks it as ending."""
        with self._changed:
            self._changed.wait_for(lambda: own or (len(self._entries) < MAX_ENTRIES and self._bytes < MAX_BYTES))
            self._last += 1
            entry = self._entries[self._last] = Entry(self._last, line, own=own)
            self._bytes += len(line)
            if entry.method == CANCELLED:
                self._cancel(entry.parameter("requestId"))
            self._changed.notify_all()
        return entry

    def settle(self, sequence: int, answer: bytes = b"") -> Entry | None:
        """The daemon is done with a message; its entry, or None if it was none of ours."""
        with self._changed:
            entry = self._entries.pop(sequence, None)
            if entry is not None:
                self._bytes -= len(entry.line)
                if not entry.own:
                    self._note(entry, answer)
                self._changed.notify_all()
        return entry

    def in_flight(self) -> list[Entry]:
        """All that is unsettled, oldest first."""
        with self._changed:
            return list(self._entries.values())

    def find(self, sequence: int) -> Entry | None:
        """The entry of that number, if it is in flight."""
        return self._entries.get(sequence)

    @property
    def greeted(self) -> bool:
        """Has the client said that the handshake is done?"""
        return INITIALIZED in self._told

    def replay(self) -> Iterator[Entry]:
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
        for entry in self.in_flight():
            entry.again |= entry.sent
            entry.sent = entry.alone = False
            if entry.cancelled or entry.method == CANCELLED:
                self.settle(entry.sequence)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until everything is settled; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), seconds)

    def wait_until_needed(self, seconds: float | None = None) -> bool:
        """Wait until something is in flight; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(self._has_work, seconds)

    def _has_work(self) -> bool:
        return any(not entry.is_standing for entry in self._entries.values())

    def _cancel(self, request_id: object) -> None:
        """What was sent is marked, so that no other daemon is given it; what was not sent is never done."""
        for entry in [entry for entry in self._entries.values() if entry.has_id(request_id)]:
            entry.cancelled = True
            if not entry.sent:
                del self._entries[entry.sequence]
                self._bytes -= len(entry.line)

    def _note(self, entry: Entry, answer: bytes) -> None:
        """Remember what gives a session its state, once it has been granted."""
        if entry.method not in (*_STATEFUL, _SUBSCRIBE, _UNSUBSCRIBE) or "error" in parse(answer or b"{}"):
            return
        if entry.method in _STATEFUL:
            self._told[entry.method] = entry.line
        elif entry.method == _SUBSCRIBE and len(self._told) < _MAX_KEPT:
            self._told[_SUBSCRIBE, str(entry.parameter("uri"))] = entry.line
        elif entry.method == _UNSUBSCRIBE:
            self._told.pop((_SUBSCRIBE, str(entry.parameter("uri"))), None)
