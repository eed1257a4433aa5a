"""The stdio door: one session over the process's own stdin and stdout."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from mempalace_mcp.protocol.descriptors import Descriptors
from mempalace_mcp.protocol.plain import PlainServer
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.stream import serve_stream
from mempalace_mcp.runtime.activity import Transport

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
                await serve_stream(PlainServer(services), session, stream, stop)
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
