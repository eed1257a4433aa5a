"""The Streamable HTTP door at `/mcp`: stateless, one JSON answer to one POST, every revision the SDK speaks.

Stateless, so a restart of the server is invisible to its clients: there is no session that could be lost. Plain calls
of tools go past the SDK, which makes a transport, a dispatcher and several tasks for each POST.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mempalace_mcp.protocol.body import Bodies, replay
from mempalace_mcp.protocol.calls import encode_response, read_call
from mempalace_mcp.protocol.envelope import Message, Refusal, read_message
from mempalace_mcp.protocol.lines import MAX_MESSAGE_BYTES
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.revisions import PROGRESS_TOKEN
from mempalace_mcp.protocol.security import access_of, refuse
from mempalace_mcp.protocol.server import PalaceServer
from mempalace_mcp.protocol.subscriptions import Subscriptions
from mempalace_mcp.runtime.activity import Activity, SessionActivity, Transport

MAX_STREAMS = 256
"""On which clients listen to changes."""

_JSON = "application/json"


class StreamableDoor:
    """An ASGI application; `run` brackets its life. All its calls count as one session, for it knows no others."""

    def __init__(self, server: PalaceServer, activity: Activity) -> None:
        self._server = server
        self._activity = activity
        self._session: SessionActivity | None = None
        self._bodies = Bodies()
        self._subscriptions = Subscriptions(max_streams=MAX_STREAMS)
        self._answering, self._streaming = (_manager(server, json_response=each) for each in (True, False))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve within the block."""
        self._session = self._activity.open(Transport.HTTP)
        try:
            async with self._answering.run(), self._streaming.run():
                yield
        finally:
            self._session.close()
            self._session = None

    def close(self) -> None:
        """End the streams on which clients listen."""
        self._subscriptions.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("the door is not open: enter `run` first")
        if scope["method"] != "POST":
            await refuse(405, "POST one message: there are no streams and no sessions here", {"Allow": "POST"})(
                scope, receive, send
            )
            return
        async with self._bodies.read(scope, receive) as body:
            if isinstance(body, Response):
                await body(scope, receive, send)
            else:
                await self._serve(self._session, body, scope, receive, send)

    async def _serve(self, session: SessionActivity, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        message = read_message(body)
        if isinstance(message, Refusal):
            await Response(message.answer(), 400, media_type=_JSON)(scope, receive, send)
            return
        origin = Origin.of_message(session, message, len(body), access=access_of(scope), peer=scope.get("client"))
        call = read_call(message.content) if _is_plain(Request(scope)) else None
        if call is not None and call.progress_token is None:
            result = await self._server.calls.answer(call, origin)
            encoded = encode_response(message.content["id"], result)
            await Response(encoded, media_type=_JSON)(scope, receive, send)
            return
        origin = replace(origin, subscriptions=self._subscriptions)
        manager = self._streaming if _is_streamed(Request(scope), message) else self._answering
        await manager.handle_request(origin.attach(scope), replay(_as_served(message, body), receive), send)


def _manager(server: PalaceServer, *, json_response: bool) -> StreamableHTTPSessionManager:
    return StreamableHTTPSessionManager(
        server,
        json_response=json_response,
        stateless=True,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # HostGuard's work
        max_request_body_size=2 * MAX_MESSAGE_BYTES,
    )


def _is_plain(request: Request) -> bool:
    """True if the SDK would have nothing to object to in the headers, and the revision has a handshake."""
    accepts_json, _ = check_accept_headers(request)
    sends_json = request.headers.get("content-type", "").partition(";")[0].strip() == _JSON
    revision = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return accepts_json and sends_json and (revision is None or revision in HANDSHAKE_PROTOCOL_VERSIONS)


def _is_streamed(request: Request, message: Message) -> bool:
    """True if the client may get more than one message, because it asked for progress, or closes the stream to cancel,
    as the revisions without a handshake have it (which get plain JSON all the same where nothing precedes the answer).
    """
    if not all(check_accept_headers(request)):
        return False
    revision = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
    if revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS:
        return True
    meta = (message.content.get("params") or {}).get("_meta")
    return isinstance(meta, dict) and PROGRESS_TOKEN in meta


def _as_served(message: Message, body: bytes) -> bytes:
    """What the SDK may read: the body as it came, unless there is something in it that must not be read."""
    return body if message.fault is None else json.dumps(message.content).encode()
