"""HTTP connections within bounds, on a real Uvicorn with bounds that are quickly reached."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mempalace_mcp.server.http_connections import HEAD_BYTES, ConnectionMiddleware, Connections
from tests.server.clients import PATIENCE, RawHttp
from tests.server.serving import served

LIMIT = 5
LARGE = 32 * 1024 * 1024


HELD, RELEASED = threading.Event(), threading.Event()
"""Of a request for `/hold`, which stops the whole server meanwhile."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers what the path asks for, and never reads a body."""
    if scope["path"] == "/hold":
        HELD.set()
        RELEASED.wait()
    size = LARGE if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@dataclass
class Served:
    port: int
    connections: Connections


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(**bounds: Any) -> Served:
            bounded = Connections(LIMIT, **bounds)
            return Served(stack.enter_context(served(ConnectionMiddleware(application, bounded), bounded)), bounded)

        yield start


def raw(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def everything_from(client: socket.socket) -> bytes:
    """What the server says until it hangs up."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            data += part
    return data


def until_open(server: Served, count: int) -> None:
    while server.connections.open != count:
        pass


def test_connections_beyond_the_limit_are_refused_at_once_and_places_come_back(serve: Callable[..., Served]) -> None:
    server = serve()
    held = [raw(server.port) for _ in range(LIMIT)]
    until_open(server, LIMIT)
    for _ in range(50):
        with raw(server.port) as refused:
            answer = everything_from(refused)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5" in answer
    assert server.connections.refused == 50
    for client in held:
        client.close()
    until_open(server, 0)
    with RawHttp(server.port) as http:
        assert http.ask("GET", "/").body == b"xx"


def test_a_head_that_does_not_end_in_time_is_refused(serve: Callable[..., Served]) -> None:
    server = serve(head_seconds=0.2)
    with raw(server.port) as silent, raw(server.port) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert everything_from(silent).startswith(b"HTTP/1.1 408 ")
        assert everything_from(slow).startswith(b"HTTP/1.1 408 ")
    with RawHttp(server.port) as http:
        assert http.ask("GET", "/").status == 200
        http.socket.sendall(b"GET / HT")
        assert http.file.read().startswith(b"HTTP/1.1 408 ")
    until_open(server, 0)


def test_an_endless_head_is_refused(serve: Callable[..., Served]) -> None:
    server = serve()
    with raw(server.port) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * HEAD_BYTES))
        assert everything_from(client).startswith(b"HTTP/1.1 431 ")


def test_the_body_of_a_refused_request_is_no_head(serve: Callable[..., Served]) -> None:
    server = serve(head_seconds=0.5)
    with RawHttp(server.port) as http:
        http.begin("POST", "/", b"y" * (4 * HEAD_BYTES))
        assert http.head().status == 200
        assert http.file.read(2) == b"xx"
        assert http.ask("GET", "/").status == 200
        http.begin("POST", "/", b"", {"Content-Length": "1000000"})
        assert http.head().status == 200
        assert http.file.read(2) == b"xx"
        http.socket.sendall(b"drop by drop")
        assert http.file.read() == b""


def test_a_client_that_reads_nothing_is_dropped(serve: Callable[..., Served], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server = serve(unread_seconds=0.2)
    with RawHttp(server.port) as idle, RawHttp(server.port) as client:
        client.begin("GET", "/large")
        until_open(server, 2)
        until_open(server, 1)
        assert "has read nothing" in caplog.text
        assert idle.ask("GET", "/large").body == b"x" * LARGE


def test_clients_that_leave_too_much_unread_make_room_for_others(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = serve(unread_bytes=3 * LARGE // 2)
    with contextlib.ExitStack() as stack:
        lazy = [stack.enter_context(RawHttp(server.port)) for _ in range(LIMIT)]
        for client in lazy:
            client.begin("GET", "/large")
            assert client.head().status == 200
        until_open(server, 1)
        assert lazy[-1].file.read(LARGE) == b"x" * LARGE
        assert "leaves too much unread" in caplog.text


def test_a_client_that_is_gone_before_it_is_accepted_is_no_error(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    HELD.clear()
    RELEASED.clear()
    with raw(server.port) as holding:
        holding.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            assert HELD.wait(PATIENCE)
            for _ in range(20):
                with raw(server.port) as client:
                    reset = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        finally:
            RELEASED.set()
        assert everything_from(holding).startswith(b"HTTP/1.1 200")
    with RawHttp(server.port) as client:
        assert client.ask("GET", "/").status == 200
    assert not [record for record in caplog.records if record.exc_info]
    assert server.connections.refused == 0
