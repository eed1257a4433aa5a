"""The stdio transport: JSON-RPC lines over stdin and stdout, or over any other stream of bytes."""

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

logger = logging.getLogger(__name__)

DRAIN_AT_END_SECONDS = 30.0
"""For the next answer, once the client has closed its side."""

DRAIN_AT_STOP_SECONDS = 3.0
"""For all requests in flight, when the process stops."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Descriptors:
    """A stream over two descriptors: pipes, sockets, terminals or files. Their owner closes them.

    Within its block a pipe or socket to write to does not block.
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
        """Some bytes, once there are any.

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
        """Write all bytes; waits while the other side does not read. One caller at a time.

        Raises:
            anyio.BrokenResourceError: the other side is gone.
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
    """Wait until the descriptor is ready."""
    try:
        await ready(descriptor)
    except PermissionError:  # the event loop does not watch files, which are always ready
        await anyio.lowlevel.checkpoint()


class ByteStream(Protocol):
    """Carries the lines. anyio's sockets are such streams, and `Descriptors` is one."""

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
    """Run the work until it is done, the client is gone, or `stop` is set."""
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


async def serve_stdio(services: Services) -> None:
    """Serve until stdin ends, stdout is closed or a stop signal comes; requests in flight are answered first.

    Only messages of the protocol reach the real stdout: other prints go to stderr.
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
    """An event that SIGTERM and SIGINT set instead of ending the process."""
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
    """Private copies of stdin and stdout. For prints and child processes stdin is empty, and stdout is stderr."""
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
