"""The MCP client's side of a bridge: lines from stdin, whole lines to stdout, and nothing else there."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

from mempalace_mcp.process.outflow import Outflow
from mempalace_mcp.protocol.lines import LineSplitter, Overlong

_READ_BYTES = 65536

ROOM_BYTES = 8 * 1024 * 1024
"""While the client leaves more than that unread, nothing more is asked for it."""

LONGEST_QUEUE_BYTES = 2 * ROOM_BYTES
"""While it leaves more than that unread, nothing more is made ready for it."""


class ClientGone(Exception):
    """Raised when nobody reads stdout any more."""


class Client:
    """Read by one thread, written by any."""

    def __init__(
        self,
        source: int = 0,
        sink: int = 1,
        on_room: Callable[[], None] = lambda: None,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._out = Outflow(sink, lambda data: os.write(sink, data), ROOM_BYTES, on_room, on_gone)

    @property
    def has_room(self) -> bool:
        """Does it read what it asks for?"""
        return self._out.has_room

    def lines(self) -> Iterator[bytes | Overlong]:
        """What the client says, until it closes its side; a last word without a newline counts."""
        splitter = LineSplitter()
        while data := self._read():
            yield from splitter.feed(data)
        yield from splitter.finish()

    def write(self, line: bytes) -> None:
        """Write one line whole; returns without waiting until it is read.

        Raises:
            ClientGone: nobody reads.
        """
        try:
            self._out.put(line + b"\n")
        except OSError as error:
            raise ClientGone from error

    def wait_for_reading(self) -> None:
        """Wait while it leaves too much unread."""
        self._out.wait_below(LONGEST_QUEUE_BYTES)

    def drain(self, seconds: float) -> None:
        """Wait until it has read everything, or nothing for so long."""
        self._out.drain(seconds)

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._source, _READ_BYTES)
            except BlockingIOError:
                select.select([self._source], [], [])
            except OSError:
                return b""
