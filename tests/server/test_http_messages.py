"""BodyReader of POSTs within bounds, over a real Uvicorn."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from starlette.responses import Response

from mempalace_mcp.server.http_messages import SMALL_BYTES, BodyReader
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.server.clients import RawHttp
from tests.server.serving import served

HELD = 4 * SMALL_BYTES


def lengths(bodies: BodyReader) -> Any:
    """An application that answers the length of each body."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async with bodies.read(scope, receive) as body:
            response = body if isinstance(body, Response) else Response(str(len(body)))
            await response(scope, receive, send)

    return application


def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    with served(lengths(BodyReader(seconds=0.2))) as port, RawHttp(port) as late, RawHttp(port) as http:
        late.begin("POST", "/", b"half", {"Content-Length": "8"})
        assert late.head().status == 408
        assert http.ask("POST", "/", b"whole").body == b"5"


def test_a_body_beyond_the_cap_is_refused_however_it_is_sent() -> None:
    with served(lengths(BodyReader())) as port, RawHttp(port) as declared, RawHttp(port) as http:
        declared.begin("POST", "/", b"", {"Content-Length": str(MAX_MESSAGE_BYTES + 1)})
        assert declared.head().status == 413
        http.socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            http.socket.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        assert http.head().status == 413


def test_long_bodies_that_do_not_end_leave_room_for_short_ones() -> None:
    with served(lengths(BodyReader(held_bytes=HELD))) as port, ExitStack() as stack:
        unfinished = stack.enter_context(RawHttp(port))
        unfinished.begin("POST", "/", b"x" * (HELD - 1), {"Content-Length": str(HELD)})
        status = 200
        while status == 200:  # until the server has read all of the unfinished one
            long = stack.enter_context(RawHttp(port))
            long.begin("POST", "/", b"x" * (2 * SMALL_BYTES))
            status = (answer := long.head()).status
        assert (status, answer.headers["retry-after"]) == (503, "5")
        short = stack.enter_context(RawHttp(port))
        assert short.ask("POST", "/", b"x" * SMALL_BYTES).body == str(SMALL_BYTES).encode()
        unfinished.socket.sendall(b"x")
        assert unfinished.head().status == 200
        assert short.ask("POST", "/", b"x" * (2 * SMALL_BYTES)).status == 200
