"""Bytes into lines, with a cap: no input, however long its lines, makes the buffer grow beyond it."""

from __future__ import annotations

from collections.abc import Iterator

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one JSON-RPC message in any direction through any door."""

EDGE_BYTES = 64 * 1024
"""What is kept of either end of a line that is too long, to find its id."""


class Overlong:
    """A line beyond the cap: only its two ends. (Dataclasses cost a bridge, which reads lines too, too much.)"""

    __slots__ = ("head", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail


class LineSplitter:
    """Splits a stream of bytes at newlines; a line too long is skipped to its end. Blank lines are left out."""

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._head: bytes | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Overlong]:
        """The lines that end within these bytes."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._extend(data[start:end])
            yield from self.finish()
            start = end + 1
        self._extend(data[start:])

    def finish(self) -> Iterator[bytes | Overlong]:
        """The line that has begun, as if a newline followed."""
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
