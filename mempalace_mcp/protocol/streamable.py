"""The Streamable HTTP door at `/mcp`: stateless, one JSON answer to one POST, every revision the SDK speaks.

Stateless, so a restart of the server is invisible to its clients: there is no session that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mempalace_mcp.protocol.body import read_body, replay
from mempalace_mcp.protocol.envelope import INVALID_REQUEST, Message, Refusal, read_message
from mempalace_mcp.protocol.lines import MAX_MESSAGE_BYTES
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.security import access_of, refuse
from mempalace_mcp.runtime.activity import Activity, SessionActivity, Transport

TOO_LARGE = Refusal(INVALID_REQUEST, f"the body is longer than {MAX_MESSAGE_BYTES:,} bytes: send less at a time")


class StreamableDoor:
    """An ASGI application; `run` brackets its life. All its calls count as one session, for it knows no others."""

    def __init__(self, server: Server[Any], activity: Activity) -> None:
        self._activity = activity
        self._session: SessionActivity | None = None
        self._manager = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # HostGuard's work
            max_request_body_size=2 * MAX_MESSAGE_BYTES,
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve within the block."""
        self._session = self._activity.open(Transport.HTTP)
        try:
            async with self._manager.run():
                yield
        finally:
            self._session.close()
            self._session = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("the door is not open: enter `run` first")
        if scope["method"] != "POST":
            await refuse(405, "POST one message: there are no streams and no sessions here", {"Allow": "POST"})(
                scope, receive, send
            )
            return
        body = await read_body(scope, receive)
        if body is None:
            await answer(TOO_LARGE, 413)(scope, receive, send)
            return
        message = read_message(body)
        if isinstance(message, Refusal):
            await answer(message, 400)(scope, receive, send)
            return
        origin = Origin.of_message(self._session, message, len(body), access=access_of(scope))
        await self._manager.handle_request(origin.attach(scope), replay(_as_served(message, body), receive), send)


def answer(refusal: Refusal, status: int) -> Response:
    """The refusal as an HTTP response."""
    return Response(refusal.answer(), status, media_type="application/json")


def _as_served(message: Message, body: bytes) -> bytes:
    """What the SDK may read: the body as it came, unless there is something in it that must not be read."""
    return body if message.fault is None else json.dumps(message.content).encode()
