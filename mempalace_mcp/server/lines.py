"""Splits bytes into lines. The buffer is bounded, however long a line is."""

from __future__ import annotations

from collections.abc import Iterator

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one JSON-RPC message, in either direction, over any transport."""

EDGE_BYTES = 64 * 1024
"""Kept of each end of a line that is too long, to find the message's id there."""


class Overlong:
    """The two ends of a line that is too long."""

    # No dataclass: a bridge imports this module, and `dataclasses` would slow down its start.

    __slots__ = ("head", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail


class LineSplitter:
    """Splits a stream of bytes at newlines. Blank lines are left out; of a line that is too long the ends are kept."""

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._head: bytes | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Overlong]:
        """The lines that end in these bytes."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._extend(data[start:end])
            yield from self.finish()
            start = end + 1
        self._extend(data[start:])

    def finish(self) -> Iterator[bytes | Overlong]:
        """The last line, which has no newline."""
        line = bytes(self._pending)
        head, self._head = self._head, None
        self._pending.clear()
        if head is not None:
            yield Overlong(head, line[-EDGE_BYTES:])
        elif line.strip():
            yield line

    def _extend(self, part: bytes) -> None:
        self._pending += part
        if len(self._pending) > self._limit:
            if self._head is None:
                self._head = bytes(self._pending[:EDGE_BYTES])
            del self._pending[:-EDGE_BYTES]
