"""A stream of bytes over two file descriptors, read and written by the event loop without threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel


class Descriptors:
    """Reads `source` and writes `sink`: pipes, sockets, terminals or files, whose owner closes them.

    While it is used as a context manager, a pipe or socket to write to does not block.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._was_blocking = True

    def __enter__(self) -> Descriptors:
        self._was_blocking = os.get_blocking(self._sink)
        mode = os.fstat(self._sink).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(self._sink, False)
        return self

    def __exit__(self, *exception: object) -> None:
        os.set_blocking(self._sink, self._was_blocking)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The bytes at hand, once there are some.

        Raises:
            anyio.EndOfStream: the other side has closed.
            anyio.BrokenResourceError: reading failed.
        """
        await _wait(anyio.wait_readable, self._source)
        try:
            data = os.read(self._source, max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Write all of it; waits while the other side does not read. One caller at a time.

        Raises:
            anyio.BrokenResourceError: nobody reads any more.
        """
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[os.write(self._sink, rest) :]
            except BlockingIOError:
                await _wait(anyio.wait_writable, self._sink)
            except OSError as error:
                raise anyio.BrokenResourceError from error


async def _wait(ready: Callable[[int], Awaitable[None]], descriptor: int) -> None:
    """Wait until the descriptor is ready; files, which always are, the event loop refuses to watch."""
    try:
        await ready(descriptor)
    except PermissionError:
        await anyio.lowlevel.checkpoint()
