"""Requests that HTTP itself refuses: in the words of JSON-RPC where a message was expected, in plain JSON elsewhere.

Clients show the error of an answer to their message, and of any other body nothing but its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.protocol.envelope import INVALID_REQUEST, Id, Message, read_message
from mempalace_mcp.protocol.requests import SERVER_ERROR
from mempalace_mcp.protocol.strict_json import decode, recover_id

MESSAGE_PATHS = frozenset({"/mcp", "/sse", "/messages"})
"""Where messages are posted, or a stream of them is opened; with or without a slash behind."""

HEAD_BYTES = 64 * 1024
"""What is read of a message that is refused, to find its id."""

HEAD_SECONDS = 2.0


def route_of(scope: Scope) -> str:
    """The path of the request, without a slash behind it where it makes no difference."""
    path: str = scope["path"]
    return path[:-1] if path[:-1] in MESSAGE_PATHS and path[-1] == "/" else path


class HttpRefusal:
    """An ASGI application that answers with the error."""

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
        return JSONResponse({"error": _text(self._error)}, self._status, self._headers)


class NothingHere:
    """An ASGI application for addresses at which there is nothing.

    Clients that were refused look for a service of OAuth at some of them, and read such a shape.
    """

    _TEXT = (
        "There is nothing at this address, and no OAuth at any: the server speaks MCP at /mcp and /sse. If it asks for "
        "a token, make one with `mempalace-mcp token new NAME --scope write`, and show it as the header Authorization: "
        "Bearer TOKEN."
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = {"error": "not_found", "error_description": self._TEXT}
        await JSONResponse(content, 404)(scope, receive, send)


def rpc_error(error: PalaceError, request_id: Id = None) -> dict[str, Any]:
    """The error as the answer to a message. Its text says what to do, too: few clients show more than that."""
    code = SERVER_ERROR if error.retryable else INVALID_REQUEST
    told = {"code": code, "message": _text(error), "data": error.as_dict()}
    return {"jsonrpc": "2.0", "id": request_id, "error": told}


def id_in(data: bytes, *, whole: bool) -> Id:
    """The id of the request that these bytes are, or begin with; None if there is none, or it cannot be told."""
    if not whole:
        return recover_id(decode(data))
    message = read_message(data)
    if not isinstance(message, Message):
        return message.id
    return message.content.get("id") if "method" in message.content else None


async def _read_id(receive: Receive) -> Id:
    head, whole = b"", False
    with anyio.move_on_after(HEAD_SECONDS):
        while not whole and len(head) < HEAD_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            head += message.get("body", b"")
            whole = not message.get("more_body", False)
    return id_in(head[:HEAD_BYTES] if not whole else head, whole=whole)


def _text(error: PalaceError) -> str:
    return error.message if error.hint is None else f"{error.message}. {error.hint}"
