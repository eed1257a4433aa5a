"""The body of a POST, read once and whole, within the cap."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from mempalace_mcp.protocol.lines import MAX_MESSAGE_BYTES


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, empty if the client left; None if it is longer than the cap, declared or sent."""
    declared = Headers(scope=scope).get("content-length", "0")
    if len(declared) > 12 or (declared.isdecimal() and int(declared) > MAX_MESSAGE_BYTES):
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_MESSAGE_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body again, in one piece, and then what really comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
