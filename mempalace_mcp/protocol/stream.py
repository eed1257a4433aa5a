"""JSON-RPC lines over any stream of bytes: the loop behind stdio and behind a socket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio

from mempalace_mcp.protocol.lines import LineSplitter
from mempalace_mcp.protocol.plain import SessionServer
from mempalace_mcp.protocol.session import Session
from mempalace_mcp.runtime.activity import SessionActivity

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


async def serve_stream(server: SessionServer, activity: SessionActivity, stream: ByteStream, stop: anyio.Event) -> None:
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
