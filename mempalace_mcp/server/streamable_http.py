"""MCP over Streamable HTTP at `/mcp`: stateless, one answer to one POST, in every revision that the SDK speaks.

A restart of the server is invisible to clients, since there is no session to lose. Plain calls of tools bypass the SDK,
which makes a transport, a dispatcher and several tasks for each POST.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.server.http_messages import (
    EVENTS,
    JSON,
    BodyReader,
    ErrorResponse,
    accepts,
    accepts_by_name,
    id_in,
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

MAX_STREAMS = 256
"""Open streams of clients that subscribe to changes."""

SESSION_ID = "mcp-session-id"
"""Identifies a client that repeats writes by key. The handshake gives it an id, and any id that it sends is accepted:
there is no session behind it."""

_SHOWN_ID = re.compile(r"[\x21-\x7e]{1,128}")
_NOT_POSTED = ErrorResponse(
    405,
    InvalidArgument("messages are posted", hint="POST one: there are no streams and no sessions at /mcp."),
    {"Allow": "POST"},
)
_NOT_JSON = ErrorResponse(415, InvalidArgument(f"a message is {JSON}", argument="Content-Type", hint="Say so."))
_NOT_ACCEPTED = ErrorResponse(
    406,
    InvalidArgument(f"answers are {JSON} or {EVENTS}", argument="Accept", hint="Accept one of them, or leave it out."),
)


class StreamableHttpTransport:
    """An ASGI application, to be used within `run`. All its calls count as one session."""

    def __init__(self, server: PalaceServer, activity: Activity) -> None:
        self._server = server
        self._activity = activity
        self._session: SessionContext | None = None
        self._bodies = BodyReader()
        self._subscriptions = Subscriptions(max_streams=MAX_STREAMS)
        self._answering, self._streaming = (_manager(server, json_response=each) for each in (True, False))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Accept requests within the block."""
        activity = self._activity.open(Transport.HTTP)
        self._session = SessionContext(activity, self._subscriptions)
        try:
            async with self._answering.run(), self._streaming.run():
                yield
        finally:
            activity.close()
            self._session = None

    def close(self) -> None:
        """End the streams of subscriptions."""
        self._subscriptions.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("the transport is not running: enter `run` first")
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
        request = RequestContext.of_message(
            session,
            message,
            len(body),
            access=principal_of(scope),
            peer=scope.get("client"),
            session_id=shown if _SHOWN_ID.fullmatch(shown) else None,
        )
        if accepts(scope, JSON) and not _is_modern(scope) and self._is_plain_call(message):
            result = await self._server.methods.answer(CALL, request, message.content["params"])
            encoded = encode_response(message.content["id"], result)
            await Response(encoded, media_type=JSON)(scope, receive, send)
            return
        if message.content.get("method") == INITIALIZE:
            send = _with_session_id(send)
        manager = self._streaming if _is_streamed(scope, message) else self._answering
        scope = with_types(request.attach(scope), f"{JSON}, {EVENTS}" if accepts(scope, EVENTS) else JSON)
        await manager.handle_request(scope, replay(_sanitized(message, body), receive), send)

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
    """True if the request is of a revision without a handshake, or of an unknown one."""
    revision = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
    return revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS


def _is_streamed(scope: Scope, message: Message) -> bool:
    """True if the answer is a stream: the client accepts nothing else, asked for progress, or closes the stream to
    cancel, as in revisions without a handshake.

    A client that asked for progress must name the stream in `Accept`; `*/*` is not enough.
    """
    if not accepts(scope, JSON):
        return True
    if not accepts(scope, EVENTS):
        return False
    if _is_modern(scope):
        return True
    meta = (message.content.get("params") or {}).get("_meta")
    return accepts_by_name(scope, EVENTS) and isinstance(meta, dict) and PROGRESS_TOKEN in meta


def _with_session_id(send: Send) -> Send:
    """A `send` that adds a new session id to a successful answer."""

    async def send_on(event: Event) -> None:
        if event["type"] == "http.response.start" and event["status"] == 200:
            field = (SESSION_ID.encode(), secrets.token_hex(16).encode())
            event = {**event, "headers": [*event.get("headers", ()), field]}
        await send(event)

    return send_on


def _sanitized(message: Message, body: bytes) -> bytes:
    """The body for the SDK, without the faults that only this server's reader detects."""
    return body if message.fault is None else json.dumps(message.content).encode()
