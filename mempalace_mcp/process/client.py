"""The MCP client's side of a bridge: lines from stdin, whole lines to stdout, and nothing else there."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

from mempalace_mcp.protocol.lines import LineSplitter, Overlong

_READ_BYTES = 65536


class ClientGone(Exception):
    """Raised when nobody reads stdout any more."""


class Client:
    """Read by one thread, written by any."""

    def __init__(self, source: int = 0, sink: int = 1) -> None:
        self._source = source
        self._sink = sink
        self._writing = threading.Lock()

    def lines(self) -> Iterator[bytes | Overlong]:
        """What the client says, until it closes its side; a last word without a newline counts."""
        splitter = LineSplitter()
        while data := self._read():
            yield from splitter.feed(data)
        yield from splitter.finish()

    def write(self, line: bytes) -> None:
        """Write one line whole.

        Raises:
            ClientGone: nobody reads.
        """
        rest = memoryview(line + b"\n")
        with self._writing:
            while rest:
                try:
                    rest = rest[os.write(self._sink, rest) :]
                except BlockingIOError:
                    select.select([], [self._sink], [])
                except OSError as error:
                    raise ClientGone from error

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._source, _READ_BYTES)
            except BlockingIOError:
                select.select([self._source], [], [])
            except OSError:
                return b""
