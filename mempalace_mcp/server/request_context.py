"""Where a request came from: what the doors attach to it for the handlers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.activity import SessionActivity
from mempalace_mcp.server.jsonrpc import Message
from mempalace_mcp.server.subscriptions import Subscriptions

_KEY = "mempalace_mcp.origin"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The session a request belongs to, its size, what is wrong with its arguments if anything is, and what it may do.

    A door whose clients repeat messages by themselves says who the client is (`receipt_scope`) and which of its
    messages this is (`sequence`): a write is done once for each pair. `session_id` is what a client shows by itself
    wherever it connects, so that the keys it chooses are its own. `request_id` is the client's own, which the SDK
    may know under another one; `resent` tells that an earlier process had the message before. `pacing` lasts as long as
    an answer is formed, and begins when the client reads what it was given.
    """

    session: SessionActivity
    size: int
    fault: InvalidArgument | None = None
    receipt_scope: str | None = None
    sequence: int | None = None
    access: Principal = FULL
    peer: tuple[str, int] | None = None
    request_id: str | int | None = None
    resent: bool = False
    subscriptions: Subscriptions | None = None
    session_id: str | None = None
    pacing: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    @property
    def client(self) -> Hashable:
        """Who shares the server with others: a session, or of a door that knows no sessions a connection."""
        return self.session.number, self.access.name, self.peer

    @classmethod
    def of_message(
        cls,
        session: SessionActivity,
        message: Message,
        size: int,
        receipt_scope: str | None = None,
        sequence: int | None = None,
        access: Principal = FULL,
        peer: tuple[str, int] | None = None,
    ) -> RequestContext:
        """The origin of a message of that many bytes."""
        request_id = message.content.get("id")
        return cls(session, size, message.fault, receipt_scope, sequence, access, peer, request_id)

    @classmethod
    def of_request(cls, request: object) -> RequestContext:
        """What a door attached to the SDK's request context: the origin itself, or one in the scope of HTTP."""
        origin = request if isinstance(request, cls) else getattr(request, "scope", {}).get(_KEY)
        if not isinstance(origin, cls):
            raise TypeError(f"a door attached no origin to its request: {request!r}")
        return origin

    def attach(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The scope with this origin in it."""
        return {**scope, _KEY: self}


def subscriptions_of(origin: RequestContext) -> Subscriptions:
    """What is followed where the request came from."""
    if origin.subscriptions is None:
        raise TypeError("a door attached no subscriptions to its request")
    return origin.subscriptions
