"""The HTTP+SSE transport of the oldest revision: `GET /sse` streams the answers to what is posted to `/messages/`."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time

import anyio
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mempalace_mcp.core.errors import Busy, InvalidArgument, NotFound
from mempalace_mcp.runtime.activity import Activity, Transport
from mempalace_mcp.server.http_messages import (
    EVENTS,
    RETRY_SECONDS,
    BodyReader,
    ErrorResponse,
    accepts,
    id_in,
    route_of,
    sends_json,
)
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.security import messages_url, principal_of
from mempalace_mcp.server.session import Session

logger = logging.getLogger(__name__)

SESSION_LIMIT = 256
IDLE_SECONDS = 600.0
"""At the limit of sessions, one whose client has sent nothing for so long is ended for a new one."""

PING_SECONDS = 15.0
RETRY_MILLISECONDS = 500
"""How long clients wait before they reconnect. Their own default is seconds."""

DRAIN_SECONDS = 1.0
"""How long calls in flight may take when the server stops."""

MESSAGES_PATH = "/messages/"
_METHODS = "GET the stream, POST the messages"
_NOT_A_STREAM = ErrorResponse(
    405, InvalidArgument("/sse is a stream", hint=f"{_METHODS} to {MESSAGES_PATH}"), {"Allow": "GET, HEAD"}
)
_NOT_A_MESSAGE = ErrorResponse(405, InvalidArgument("messages are posted", hint=f"{_METHODS}."), {"Allow": "POST"})
_NO_EVENTS = ErrorResponse(
    406, InvalidArgument(f"/sse is a stream of {EVENTS}", argument="Accept", hint="Accept that.")
)
_NOT_JSON = ErrorResponse(
    415, InvalidArgument("a message is application/json", argument="Content-Type", hint="Say so.")
)
_NO_SESSION = ErrorResponse(
    404, NotFound("there is no such session", argument="session_id", hint="GET /sse opens one, and says its address.")
)
_NO_ROOM = ErrorResponse(
    503,
    Busy(
        "no more sessions can be served now", hint=f"Try again in {RETRY_SECONDS} seconds.", retry_after=RETRY_SECONDS
    ),
    {"Retry-After": str(RETRY_SECONDS)},
)
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),
)
_HEADERS = [(name.encode(), value.encode()) for name, value in _FIELDS]


class SseTransport:
    """An ASGI application for both paths, and the sessions they share."""

    def __init__(
        self,
        server: MethodServer,
        activity: Activity,
        session_limit: int = SESSION_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._server = server
        self._activity = activity
        self._session_limit = session_limit
        self._idle_seconds = idle_seconds
        self._sessions: dict[tuple[str, str], Session] = {}
        """By the name of the token that opened the session, which alone may post to it, and the session's id."""
        self._last_posts: dict[tuple[str, str], float] = {}
        """When the client last posted something."""
        self._client_ids: dict[tuple[str, str], str] = {}
        """The id that identifies a client when it reconnects."""
        self._bodies = BodyReader()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self._messages if f"{route_of(scope)}/" == MESSAGES_PATH else self._stream
        await serve(scope, receive, send)

    async def close(self) -> None:
        """Accept no more sessions, give calls in flight a moment to finish, and end every stream."""
        self._stopping = True
        async with anyio.create_task_group() as tasks:
            for session in list(self._sessions.values()):
                tasks.start_soon(_end, session)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _NOT_A_STREAM(scope, receive, send)
        elif not accepts(scope, EVENTS):
            await _NO_EVENTS(scope, receive, send)
        elif scope["method"] == "HEAD":
            await Response(None, 200, dict(_FIELDS))(scope, receive, send)
        elif self._stopping or not self._has_room():
            await _NO_ROOM(scope, receive, send)
        else:
            await self._serve(scope, receive, _EventStream(send))

    def _has_room(self) -> bool:
        """May one more session begin? At the limit the longest idle one is ended if it has been idle long enough."""
        if len(self._sessions) < self._session_limit:
            return True
        idle = ((posted, key) for key, posted in self._last_posts.items() if not self._sessions[key].in_flight)
        posted, key = min(idle, default=(math.inf, ("", "")))
        if time.monotonic() - posted < self._idle_seconds:
            return False
        logger.info("an idle session makes room for a new one")
        self._forget(key).abort()
        return True

    async def _serve(self, scope: Scope, receive: Receive, events: _EventStream) -> None:
        activity = self._activity.open(Transport.SSE)
        session = Session(self._server, activity, events.message)
        session_id = secrets.token_hex(16)
        client_id = _client_id(scope)
        key = principal_of(scope).name, session_id
        self._sessions[key] = session
        self._last_posts[key] = time.monotonic()
        self._client_ids[key] = client_id
        try:
            await events.begin(messages_url(scope, f"{MESSAGES_PATH}?session_id={session_id}"), client_id)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_abort_when_gone, receive, session)
                tasks.start_soon(events.keep_alive)
                await session.serve()
                tasks.cancel_scope.cancel()
            await events.end()
        finally:
            if key in self._sessions:
                self._forget(key)
            session.abort()
            activity.close()

    def _forget(self, key: tuple[str, str]) -> Session:
        del self._last_posts[key], self._client_ids[key]
        return self._sessions.pop(key)

    async def _messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._accept(scope, receive)
        await response(scope, receive, send)

    async def _accept(self, scope: Scope, receive: Receive) -> Response | ErrorResponse:
        """Hand the message to its session, then answer 202: if the session has ended, nothing is promised."""
        if scope["method"] != "POST":
            return _NOT_A_MESSAGE
        if not sends_json(scope):
            return _NOT_JSON
        principal = principal_of(scope)
        key = principal.name, QueryParams(scope["query_string"]).get("session_id", "")
        session = self._sessions.get(key)
        if session is None:
            return _NO_SESSION
        self._last_posts[key] = time.monotonic()
        async with self._bodies.read(scope, receive) as body:
            if isinstance(body, Response):
                return body
            try:
                await session.receive(body, principal, self._client_ids.get(key))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return _NO_SESSION.answer(id_in(body, whole=True))
            return Response("Accepted", 202)


class _EventStream:
    """The response of `GET /sse`, one whole event at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writing = anyio.Lock()

    async def begin(self, endpoint: str, client_id: str) -> None:
        """Send the address for messages, and the id that the client sends when it reconnects."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        event = f"event: endpoint\r\ndata: {endpoint}\r\nid: {client_id}\r\nretry: {RETRY_MILLISECONDS}\r\n\r\n"
        await self._write(event.encode())

    async def message(self, message: bytes) -> None:
        """Send one message of the protocol."""
        await self._write(b"event: message\r\ndata: " + message + b"\r\n\r\n")

    async def keep_alive(self) -> None:
        """Send comments for ever, so that proxies do not close an idle connection."""
        while True:
            await anyio.sleep(PING_SECONDS)
            await self._write(b": ping\r\n\r\n")

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


def _client_id(scope: Scope) -> str:
    """The id that the client sends when it reconnects, or a new one."""
    shown = Headers(scope=scope).get("last-event-id", "")
    return shown if _SESSION_ID.fullmatch(shown) else secrets.token_hex(16)


async def _abort_when_gone(receive: Receive, session: Session) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    session.abort()


async def _end(session: Session) -> None:
    await session.drain(DRAIN_SECONDS)
    session.abort()
    await session.finished.wait()
