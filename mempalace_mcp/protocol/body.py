"""The bodies of POSTs, each read whole, within bounds of size, of time, and of what all of them take together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message as Event
from starlette.types import Receive, Scope

from mempalace_mcp.core.errors import Busy, InvalidArgument
from mempalace_mcp.protocol.lines import EDGE_BYTES, MAX_MESSAGE_BYTES
from mempalace_mcp.protocol.refusing import HttpRefusal, id_in

BODY_SECONDS = 60.0
"""From the end of the head to the end of the body."""

HELD_BYTES = 4 * MAX_MESSAGE_BYTES
"""Of all bodies together, from their first byte to their answer; beyond it only small ones are taken."""

SMALL_BYTES = 64 * 1024

RETRY_SECONDS = 5

_TOO_LARGE = HttpRefusal(
    413, InvalidArgument(f"the body is longer than {MAX_MESSAGE_BYTES:,} bytes", hint="Send less at a time.")
)
_TOO_MANY = HttpRefusal(
    503,
    Busy(
        "too many long messages arrive at once",
        hint=f"Try again in {RETRY_SECONDS} seconds.",
        retry_after=RETRY_SECONDS,
    ),
    {"Retry-After": str(RETRY_SECONDS)},
)


class Bodies:
    """The bodies that one door holds."""

    def __init__(self, seconds: float = BODY_SECONDS, held_bytes: int = HELD_BYTES) -> None:
        self._seconds = seconds
        self._limit = held_bytes
        self._held = 0

    @asynccontextmanager
    async def read(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes | Response]:
        """The whole body, empty if the client left, or the answer that refuses it. It counts until the block ends."""
        parts: list[bytes] = []
        try:
            with anyio.move_on_after(self._seconds) as waiting:
                refusal = await self._collect(scope, receive, parts)
            if waiting.cancelled_caught:
                refusal = HttpRefusal(
                    408, InvalidArgument(f"the body did not arrive within {self._seconds:.0f} s", hint="Send it again.")
                )
            body = b"".join(parts)
            yield body if refusal is None else refusal.answer(id_in(body[:EDGE_BYTES], whole=False))
        finally:
            self._held -= sum(map(len, parts))

    async def _collect(self, scope: Scope, receive: Receive, parts: list[bytes]) -> HttpRefusal | None:
        """Read until the end, or until it must be refused."""
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
    """A `receive` that gives the body again, in one piece, and then what really comes."""
    pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Event:
        return pending.pop() if pending else await receive()

    return receive_again
