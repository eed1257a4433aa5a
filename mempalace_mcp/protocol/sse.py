"""The HTTP+SSE door of the oldest revision: `GET /sse` streams the answers to what is posted to `/messages/`."""

from __future__ import annotations

import logging
import math
import secrets
import time

import anyio
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mempalace_mcp.protocol.body import Bodies
from mempalace_mcp.protocol.plain import SessionServer
from mempalace_mcp.protocol.security import access_of, refuse
from mempalace_mcp.protocol.session import Session
from mempalace_mcp.runtime.activity import Activity, Transport

logger = logging.getLogger(__name__)

SESSION_LIMIT = 256
IDLE_SECONDS = 600.0
"""A client that has asked nothing for so long makes room for a new one, when there is none."""

PING_SECONDS = 15.0
RETRY_MILLISECONDS = 500
"""After which clients reconnect whose stream was cut; by themselves they wait for seconds."""

DRAIN_SECONDS = 1.0
"""For calls in flight when the server stops."""

MESSAGES_PATH = "/messages/"
_RETRY = {"Retry-After": "5"}
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class SseDoor:
    """An ASGI application for both paths, and the sessions they share."""

    def __init__(
        self,
        server: SessionServer,
        activity: Activity,
        session_limit: int = SESSION_LIMIT,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._server = server
        self._activity = activity
        self._session_limit = session_limit
        self._idle_seconds = idle_seconds
        self._sessions: dict[tuple[str, str], Session] = {}
        """By the name of the token that opened it, which alone may post to it, and its id."""
        self._heard: dict[tuple[str, str], float] = {}
        """When its client last posted something."""
        self._bodies = Bodies()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self._messages if scope["path"].endswith(MESSAGES_PATH) else self._stream
        await serve(scope, receive, send)

    async def close(self) -> None:
        """Admit nobody any more, answer what is in flight if that is soon, and end every stream."""
        self._stopping = True
        async with anyio.create_task_group() as tasks:
            for session in list(self._sessions.values()):
                tasks.start_soon(_end, session)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await refuse(405, "GET the stream, POST the messages", {"Allow": "GET"})(scope, receive, send)
        elif self._stopping or not self._has_room():
            await refuse(503, "no more sessions can be served now", _RETRY)(scope, receive, send)
        else:
            await self._serve(scope, receive, _EventStream(send))

    def _has_room(self) -> bool:
        """True if one more session can be served, now that one that was idle for long has ended if it must."""
        if len(self._sessions) < self._session_limit:
            return True
        waiting = ((heard, key) for key, heard in self._heard.items() if not self._sessions[key].in_flight)
        heard, key = min(waiting, default=(math.inf, ("", "")))
        if time.monotonic() - heard < self._idle_seconds:
            return False
        logger.info("an idle session makes room for a new one")
        self._forget(key).abort()
        return True

    async def _serve(self, scope: Scope, receive: Receive, events: _EventStream) -> None:
        activity = self._activity.open(Transport.SSE)
        session = Session(self._server, activity, events.message)
        session_id = secrets.token_hex(16)
        key = access_of(scope).name, session_id
        self._sessions[key] = session
        self._heard[key] = time.monotonic()
        try:
            await events.begin(f"{scope.get('root_path', '').rstrip('/')}{MESSAGES_PATH}?session_id={session_id}")
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
        del self._heard[key]
        return self._sessions.pop(key)

    async def _messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._accept(scope, receive)
        await response(scope, receive, send)

    async def _accept(self, scope: Scope, receive: Receive) -> Response:
        """Hand the message to its session first and say 202 then: a session that ends in between promises nothing."""
        if scope["method"] != "POST":
            return refuse(405, "POST the messages, GET the stream", {"Allow": "POST"})
        if not Headers(scope=scope).get("content-type", "").lower().startswith("application/json"):
            return refuse(415, "Content-Type must be application/json")
        access = access_of(scope)
        key = access.name, QueryParams(scope["query_string"]).get("session_id", "")
        session = self._sessions.get(key)
        if session is None:
            return _no_session()
        self._heard[key] = time.monotonic()
        async with self._bodies.read(scope, receive) as body:
            if isinstance(body, Response):
                return body
            try:
                await session.receive(body, access)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return _no_session()
            return Response("Accepted", 202)


class _EventStream:
    """The response of `GET /sse`, one whole event at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writing = anyio.Lock()

    async def begin(self, endpoint: str) -> None:
        """Say where messages are to be posted."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        event = f"event: endpoint\r\ndata: {endpoint}\r\nretry: {RETRY_MILLISECONDS}\r\n\r\n"
        await self._write(event.encode())

    async def message(self, message: bytes) -> None:
        """Send one message of the protocol."""
        await self._write(b"event: message\r\ndata: " + message + b"\r\n\r\n")

    async def keep_alive(self) -> None:
        """Send comments for ever, so that nobody on the way takes silence for death."""
        while True:
            await anyio.sleep(PING_SECONDS)
            await self._write(b": ping\r\n\r\n")

    async def end(self) -> None:
        """Say that nothing more comes."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


def _no_session() -> Response:
    return refuse(404, "there is no such session: GET /sse opens one")


async def _abort_when_gone(receive: Receive, session: Session) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    session.abort()


async def _end(session: Session) -> None:
    await session.drain(DRAIN_SECONDS)
    session.abort()
    await session.finished.wait()
