"""HTTP messages: content negotiation (RFC 9110, section 12.5.1), error responses, and bodies within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from mempalace_mcp.core.errors import Busy, InvalidArgument, PalaceError
from mempalace_mcp.server.jsonrpc import INVALID_REQUEST, SERVER_ERROR, Id, Message, decode, read_message, recover_id
from mempalace_mcp.server.lines import EDGE_BYTES, MAX_MESSAGE_BYTES

JSON = "application/json"
EVENTS = "text/event-stream"

MESSAGE_PATHS = frozenset({"/mcp", "/sse", "/messages"})
"""Routes of messages and of their streams, without a slash at the end."""

PEEK_BYTES = 64 * 1024
"""Read from the body of a refused request at most, to find the id of its message."""

PEEK_SECONDS = 2.0

BODY_SECONDS = 60.0
"""From the end of the head to the end of the body."""

HELD_BYTES = 4 * MAX_MESSAGE_BYTES
"""All bodies together, from their first byte to their answer. Beyond it only small ones are accepted."""

SMALL_BYTES = 64 * 1024

RETRY_SECONDS = 5


def accepts(scope: Scope, kind: str) -> bool:
    """May the answer be of that kind? The most specific range of `Accept` decides; without one, every kind may be."""
    parts = _accepted_ranges(scope)
    if not parts or kind in parts:
        return True
    ranges = dict(map(_parse_range, parts))
    for fitting in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if fitting in ranges:
            return ranges[fitting]
    return False


def accepts_by_name(scope: Scope, kind: str) -> bool:
    """Does the request's `Accept` name exactly that kind?"""
    return dict(map(_parse_range, _accepted_ranges(scope))).get(kind, False)


def sends_json(scope: Scope) -> bool:
    """Does the request declare a JSON body? A page of another site cannot send one without a preflight request."""
    content_type = Headers(scope=scope).get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == JSON


def with_types(scope: Scope, accept: str) -> Scope:
    """The request with another `Accept`, and JSON as its content type."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"accept", b"content-type")]
    return {**scope, "headers": [*kept, (b"accept", accept.encode()), (b"content-type", JSON.encode())]}


def _accepted_ranges(scope: Scope) -> list[str]:
    header = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return [part for each in header.decode("latin-1").lower().split(",") if (part := each.strip())]


def _parse_range(part: str) -> tuple[str, bool]:
    """A media range, and whether it is acceptable."""
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    return kind, not any(_is_zero(parameter) for parameter in parameters)


def _is_zero(parameter: str) -> bool:
    # a weight of zero means "not acceptable"
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and set(value.strip()) <= {"0", "."} and value.strip() != ""


def route_of(scope: Scope) -> str:
    """The path of the request; for a message path without the slash at its end."""
    path: str = scope["path"]
    return path[:-1] if path[:-1] in MESSAGE_PATHS and path[-1] == "/" else path


class ErrorResponse:
    """An ASGI application that answers with an error: as JSON-RPC on message paths, as plain JSON elsewhere.

    Clients show the error in an answer to their message, but only the status of any other body.
    """

    def __init__(self, status: int, error: PalaceError, headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self._error = error
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if route_of(scope) in MESSAGE_PATHS:
            request_id = await _read_id(receive) if scope["method"] == "POST" else None
            response = self.answer(request_id)
        else:
            response = self.plain()
        await response(scope, receive, send)

    def answer(self, request_id: Id) -> Response:
        """The answer to the message with that id."""
        return JSONResponse(rpc_error(self._error, request_id), self._status, self._headers)

    def plain(self) -> Response:
        """The answer to a request that is no message."""
        return JSONResponse({"error": _text_of(self._error)}, self._status, self._headers)


class NotFoundResponse:
    """An ASGI application that answers 404, in the shape of an OAuth error: refused clients probe OAuth's paths."""

    _TEXT = (
        "There is nothing at this address, and no OAuth at any: the server speaks MCP at /mcp and /sse. If it asks for "
        "a token, make one with `mempalace-mcp token new NAME --scope write`, and show it as the header Authorization: "
        "Bearer TOKEN."
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = {"error": "not_found", "error_description": self._TEXT}
        await JSONResponse(content, 404)(scope, receive, send)


def rpc_error(error: PalaceError, request_id: Id = None) -> dict[str, Any]:
    """The error as the answer to a message. The text includes the hint, because few clients show `data`."""
    code = SERVER_ERROR if error.retryable else INVALID_REQUEST
    content = {"code": code, "message": _text_of(error), "data": error.as_dict()}
    return {"jsonrpc": "2.0", "id": request_id, "error": content}


def id_in(data: bytes, *, whole: bool) -> Id:
    """The id of the JSON-RPC request in these bytes, or in their beginning; None if none is found."""
    if not whole:
        return recover_id(decode(data))
    message = read_message(data)
    if not isinstance(message, Message):
        return message.id
    return message.content.get("id") if "method" in message.content else None


async def _read_id(receive: Receive) -> Id:
    head, whole = b"", False
    with anyio.move_on_after(PEEK_SECONDS):
        while not whole and len(head) < PEEK_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            head += message.get("body", b"")
            whole = not message.get("more_body", False)
    return id_in(head[:PEEK_BYTES] if not whole else head, whole=whole)


def _text_of(error: PalaceError) -> str:
    return error.message if error.hint is None else f"{error.message}. {error.hint}"


_TOO_LARGE = ErrorResponse(
    413, InvalidArgument(f"the body is longer than {MAX_MESSAGE_BYTES:,} bytes", hint="Send less at a time.")
)
_TOO_MANY = ErrorResponse(
    503,
    Busy(
        "too many long messages arrive at once",
        hint=f"Try again in {RETRY_SECONDS} seconds.",
        retry_after=RETRY_SECONDS,
    ),
    {"Retry-After": str(RETRY_SECONDS)},
)


class BodyReader:
    """Reads the bodies of one transport's POSTs, within bounds of size and time, and of their total size."""

    def __init__(self, seconds: float = BODY_SECONDS, held_bytes: int = HELD_BYTES) -> None:
        self._seconds = seconds
        self._limit = held_bytes
        self._held = 0

    @asynccontextmanager
    async def read(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes | Response]:
        """The whole body, empty if the client disconnected, or the error response. It counts until the block ends."""
        parts: list[bytes] = []
        try:
            with anyio.move_on_after(self._seconds) as waiting:
                refusal = await self._collect(scope, receive, parts)
            if waiting.cancelled_caught:
                refusal = ErrorResponse(
                    408, InvalidArgument(f"the body did not arrive within {self._seconds:.0f} s", hint="Send it again.")
                )
            body = b"".join(parts)
            yield body if refusal is None else refusal.answer(id_in(body[:EDGE_BYTES], whole=False))
        finally:
            self._held -= sum(map(len, parts))

    async def _collect(self, scope: Scope, receive: Receive, parts: list[bytes]) -> ErrorResponse | None:
        """Read to the end of the body, or to the byte for which it must be refused."""
        declared = Headers(scope=scope).get("content-length", "0")
        if len(declared) > 12 or (declared.isdecimal() and int(declared) > MAX_MESSAGE_BYTES):
            return _TOO_LARGE
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._held -= size
                parts.clear()
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._held += len(parts[-1])
            if size > MAX_MESSAGE_BYTES:
                return _TOO_LARGE
            if size > SMALL_BYTES and self._held > self._limit:
                return _TOO_MANY
            if not message.get("more_body", False):
                return None


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body again, in one piece, and then the events that follow."""
    pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Event:
        return pending.pop() if pending else await receive()

    return receive_again
