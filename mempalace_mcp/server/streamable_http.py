"""MCP over Streamable HTTP.

Requests and their answers, one after the other on each connection, which is told of them.

The rest of a body that was refused unread is read and thrown away: it would pass for the head of the next request, and
a client that is still sending when its connection is closed does not see the answer.

The Streamable HTTP door at `/mcp`: stateless, one JSON answer to one POST, every revision the SDK speaks.

Stateless, so a restart of the server is invisible to its clients: there is no session that could be lost. Plain calls
of tools go past the SDK, which makes a transport, a dispatcher and several tasks for each POST.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.server.http_connections import Connection, Connections
from mempalace_mcp.server.http_messages import (
    EVENTS,
    JSON,
    Bodies,
    HttpRefusal,
    accepts,
    id_in,
    names,
    replay,
    sends_json,
    with_types,
)
from mempalace_mcp.server.initialize import INITIALIZE, PROGRESS_TOKEN
from mempalace_mcp.server.jsonrpc import CALL, Message, Refusal, encode_response, read_message
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from mempalace_mcp.server.request_context import RequestContext, SessionContext
from mempalace_mcp.server.sdk import PalaceServer
from mempalace_mcp.server.security import principal_of
from mempalace_mcp.server.subscriptions import Subscriptions


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


MAX_STREAMS = 256
"""On which clients listen to changes."""

SESSION_ID = "mcp-session-id"
"""The field by which a client is known again. It is given one with the handshake, and any that it shows is taken: there
is nothing behind it but the scope of the keys by which it repeats its writes."""

_SHOWN_ID = re.compile(r"[\x21-\x7e]{1,128}")
_NOT_POSTED = HttpRefusal(
    405,
    InvalidArgument("messages are posted", hint="POST one: there are no streams and no sessions at /mcp."),
    {"Allow": "POST"},
)
_NOT_JSON = HttpRefusal(415, InvalidArgument(f"a message is {JSON}", argument="Content-Type", hint="Say so."))
_NOT_ACCEPTED = HttpRefusal(
    406,
    InvalidArgument(f"answers are {JSON} or {EVENTS}", argument="Accept", hint="Accept one of them, or leave it out."),
)


class StreamableHttpTransport:
    """An ASGI application; `run` brackets its life. All its calls count as one session, for it knows no others."""

    def __init__(self, server: PalaceServer, activity: Activity) -> None:
        self._server = server
        self._activity = activity
        self._session: SessionContext | None = None
        self._bodies = Bodies()
        self._subscriptions = Subscriptions(max_streams=MAX_STREAMS)
        self._answering, self._streaming = (_manager(server, json_response=each) for each in (True, False))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve within the block."""
        activity = self._activity.open(Transport.HTTP)
        self._session = SessionContext(activity, self._subscriptions)
        try:
            async with self._answering.run(), self._streaming.run():
                yield
        finally:
            activity.close()
            self._session = None

    def close(self) -> None:
        """End the streams on which clients listen."""
        self._subscriptions.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("the door is not open: enter `run` first")
        if scope["method"] != "POST":
            await _NOT_POSTED(scope, receive, send)
            return
        async with self._bodies.read(scope, receive) as body:
            if isinstance(body, Response):
                await body(scope, receive, send)
            else:
                await self._serve(self._session, body, scope, receive, send)

    async def _serve(self, session: SessionContext, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _NOT_JSON if not sends_json(scope) else None if _accepts_any(scope) else _NOT_ACCEPTED
        if refusal is not None:
            await refusal.answer(id_in(body, whole=True))(scope, receive, send)
            return
        message = read_message(body)
        if isinstance(message, Refusal):
            await Response(message.answer(), 400, media_type=JSON)(scope, receive, send)
            return
        shown = Headers(scope=scope).get(SESSION_ID, "")
        origin = replace(
            RequestContext.of_message(
                session, message, len(body), access=principal_of(scope), peer=scope.get("client")
            ),
            session_id=shown if _SHOWN_ID.fullmatch(shown) else None,
        )
        if accepts(scope, JSON) and not _is_modern(scope) and self._is_plain_call(message):
            result = await self._server.methods.answer(CALL, origin, message.content["params"])
            encoded = encode_response(message.content["id"], result)
            await Response(encoded, media_type=JSON)(scope, receive, send)
            return
        if message.content.get("method") == INITIALIZE:
            send = _giving_id(send)
        manager = self._streaming if _is_streamed(scope, message) else self._answering
        scope = with_types(origin.attach(scope), f"{JSON}, {EVENTS}" if accepts(scope, EVENTS) else JSON)
        await manager.handle_request(scope, replay(_as_served(message, body), receive), send)

    def _is_plain_call(self, message: Message) -> bool:
        """True if the message is a call of a tool that needs neither the SDK nor reports of progress."""
        content = message.content
        if content.get("method") != CALL or "id" not in content or not self._server.methods.is_plain(content):
            return False
        return PROGRESS_TOKEN not in content["params"].get("_meta", {})


def _manager(server: PalaceServer, *, json_response: bool) -> StreamableHTTPSessionManager:
    return StreamableHTTPSessionManager(
        server,
        json_response=json_response,
        stateless=True,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # HostGuard's work
        max_request_body_size=2 * MAX_MESSAGE_BYTES,
    )


def _accepts_any(scope: Scope) -> bool:
    return accepts(scope, JSON) or accepts(scope, EVENTS)


def _is_modern(scope: Scope) -> bool:
    """True if the request is of a revision without a handshake, or of one that nobody knows."""
    revision = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
    return revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS


def _is_streamed(scope: Scope, message: Message) -> bool:
    """True if the client may get more than one message, because it asked for progress, or closes the stream to cancel,
    as the revisions without a handshake have it (which get plain JSON all the same where nothing precedes the answer).

    Whoever names no kind is told of progress only in a stream that it asked for by name.
    """
    if not accepts(scope, JSON):
        return True
    if not accepts(scope, EVENTS):
        return False
    if _is_modern(scope):
        return True
    meta = (message.content.get("params") or {}).get("_meta")
    return names(scope, EVENTS) and isinstance(meta, dict) and PROGRESS_TOKEN in meta


def _giving_id(send: Send) -> Send:
    """A `send` that gives a client whose handshake succeeds an id to show from then on."""

    async def send_on(event: Event) -> None:
        if event["type"] == "http.response.start" and event["status"] == 200:
            field = (SESSION_ID.encode(), secrets.token_hex(16).encode())
            event = {**event, "headers": [*event.get("headers", ()), field]}
        await send(event)

    return send_on


def _as_served(message: Message, body: bytes) -> bytes:
    """What the SDK may read: the body as it came, unless there is something in it that must not be read."""
    return body if message.fault is None else json.dumps(message.content).encode()
