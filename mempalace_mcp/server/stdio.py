"""MCP over stdin and stdout, or a socket.

A stream of bytes over two file descriptors, read and written by the event loop without threads.

JSON-RPC lines over any stream of bytes: the loop behind stdio and behind a socket.

The stdio door: one session over the process's own stdin and stdout.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import anyio
import anyio.lowlevel

from mempalace_mcp.runtime.activity import SessionActivity, Transport
from mempalace_mcp.server.lines import LineSplitter
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.session import Session


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


logger = logging.getLogger(__name__)

DRAIN_AT_END_SECONDS = 30.0
"""For the next answer to what is in flight when the client has said its last word."""

DRAIN_AT_STOP_SECONDS = 3.0
"""For all that is in flight when this process is told to stop."""


class ByteStream(Protocol):
    """What carries the lines; anyio's sockets are such streams, and so is `Descriptors`."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes.

        Raises:
            anyio.EndOfStream: the client has closed its side.
            anyio.BrokenResourceError, anyio.ClosedResourceError: the connection is gone.
        """
        ...

    async def send(self, item: bytes) -> None:
        """All of the bytes.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the client does not read any more.
        """
        ...


async def serve_stream(server: MethodServer, activity: SessionActivity, stream: ByteStream, stop: anyio.Event) -> None:
    """Serve one session until the client closes its side, stops reading, or `stop` is set; then drain it and return."""

    async def write(message: bytes) -> None:
        await stream.send(message + b"\n")

    session = Session(server, activity, write)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.serve)
        await _until(partial(_read, stream, session), session, stop)
        await _until(partial(session.answer_all, DRAIN_AT_END_SECONDS), session, stop)
        if not session.broken.is_set():
            await session.drain(DRAIN_AT_STOP_SECONDS)
        session.close()
        with anyio.move_on_after(DRAIN_AT_STOP_SECONDS):
            await session.finished.wait()
        session.abort()


async def _until(work: Callable[[], Awaitable[None]], session: Session, stop: anyio.Event) -> None:
    """Work until it is done, the client is gone, or `stop` is set."""
    async with anyio.create_task_group() as tasks:

        async def cancel_at(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel_at, stop)
        tasks.start_soon(cancel_at, session.broken)
        try:
            await work()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            logger.debug("the client is gone")
        tasks.cancel_scope.cancel()


async def _read(stream: ByteStream, session: Session) -> None:
    lines = LineSplitter()
    while True:
        try:
            data = await stream.receive()
        except anyio.EndOfStream:
            break
        for line in lines.feed(data):
            await session.receive(line)
    for line in lines.finish():
        await session.receive(line)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve_stdio(services: Services) -> None:
    """Serve until stdin ends, stdout is closed or a stop signal comes; what is in flight is answered first.

    Meanwhile nothing but the protocol reaches the real stdout: whatever else is printed goes to stderr.
    """
    session = services.activity.open(Transport.STDIO)
    try:
        with _own_descriptors() as (source, sink), Descriptors(source, sink) as stream, stop_on_signal() as stop:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(services.health.watch)
                tasks.start_soon(services.feed.watch)
                await serve_stream(MethodServer(services), session, stream, stop)
                tasks.cancel_scope.cancel()
    finally:
        session.close()


@contextmanager
def stop_on_signal() -> Iterator[anyio.Event]:
    """An event that SIGTERM and SIGINT set, instead of what they would do."""
    stop = anyio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _own_descriptors() -> Iterator[tuple[int, int]]:
    """Private copies of stdin and stdout; meanwhile 0 is empty and 1 is stderr, for prints and child processes."""
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    try:
        yield source, sink
    finally:
        sys.stdout.flush()
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.close(source)
        os.close(sink)
