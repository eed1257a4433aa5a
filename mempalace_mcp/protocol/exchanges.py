"""Requests and their answers, one after the other on each connection, which is told of them.

The rest of a body that was refused unread is read and thrown away: it would pass for the head of the next request, and
a client that is still sending when its connection is closed does not see the answer.
"""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from mempalace_mcp.protocol.connections import Connection, Connections


class Exchanges:
    """An ASGI application around another one."""

    def __init__(self, application: ASGIApp, connections: Connections) -> None:
        self._application = application
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._connections.of(scope) if scope["type"] == "http" else None
        if connection is None:
            await self._application(scope, receive, send)
            return
        body = _Body(scope, receive, connection)
        connection.begin()
        try:
            await self._application(scope, body.receive, body.ending(send))
        finally:
            connection.end()


class _Body:
    """The body of one request."""

    def __init__(self, scope: Scope, receive: Receive, connection: Connection) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._connection = connection
        self._has_begun = False
        self._waits = "expect" in headers
        connection.is_in_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Event:
        """The next part."""
        self._has_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._connection.is_in_body = False
        return message

    def ending(self, send: Send) -> Send:
        """A `send` that ends the answer only when the body has ended, too."""

        async def send_on(message: Event) -> None:
            if self._connection.is_in_body and _is_last(message):
                await send({**message, "more_body": True})
                await self._read_to_the_end()
                message = {"type": "http.response.body"}
            await send(message)

        return send_on

    async def _read_to_the_end(self) -> None:
        """Or hang up: when it takes too long, and when the client waits to be told that it may send the body."""
        if self._has_begun or not self._waits:
            with anyio.move_on_after(self._connection.head_seconds):
                while self._connection.is_in_body:
                    await self.receive()
        if self._connection.is_in_body:
            self._connection.hang_up()


def _is_last(message: Event) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)
