"""What a request carries to its handler: its session, its caller, and what identifies it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.activity import SessionActivity
from mempalace_mcp.server.jsonrpc import Message
from mempalace_mcp.server.subscriptions import Subscriptions

_SCOPE_KEY = "mempalace_mcp.request_context"

Notify = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Sends a notification: its method, its parameters."""


async def _notify_nobody(method: str, params: Mapping[str, Any]) -> None:
    """Of a transport that answers each request once."""


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What the requests of a session share. A transport without sessions has one for all of its requests.

    `pacing` is held while a long result is formed, and entered when the client has read most of what it was sent.
    """

    activity: SessionActivity
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    notify: Notify = _notify_nobody
    pacing: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request: its session, its size in bytes, the fault in its arguments if there is one, and its caller's rights.

    A transport whose clients resend messages sets `idempotency_scope` (the client) and `sequence` (the message's
    number): a write is done once for each pair. `session_id` is an id that the client shows wherever it connects; it
    separates the idempotency keys of clients. `request_id` is the client's own id, which the SDK may know under another
    one. `resent` tells that an earlier process received the message before. `is_modern` tells that its revision has no
    handshake.
    """

    session: SessionContext
    size: int
    fault: InvalidArgument | None = None
    idempotency_scope: str | None = None
    sequence: int | None = None
    access: Principal = FULL
    peer: tuple[str, int] | None = None
    request_id: str | int | None = None
    resent: bool = False
    session_id: str | None = None
    is_modern: bool = False

    @property
    def client(self) -> Hashable:
        """The client for fair scheduling: a session, or a connection of a transport without sessions."""
        return self.session.activity.number, self.access.name, self.peer

    @classmethod
    def of_message(
        cls,
        session: SessionContext,
        message: Message,
        size: int,
        idempotency_scope: str | None = None,
        sequence: int | None = None,
        access: Principal = FULL,
        peer: tuple[str, int] | None = None,
        session_id: str | None = None,
    ) -> RequestContext:
        """The context of a message of that many bytes."""
        request_id = message.content.get("id")
        return cls(
            session,
            size,
            message.fault,
            idempotency_scope,
            sequence,
            access,
            peer,
            request_id,
            session_id=session_id,
        )

    @classmethod
    def of_request(cls, request: object) -> RequestContext:
        """The context that a transport attached to the SDK's request: the context itself, or a scope of HTTP with it.

        Raises:
            TypeError: there is none.
        """
        context = request if isinstance(request, cls) else getattr(request, "scope", {}).get(_SCOPE_KEY)
        if not isinstance(context, cls):
            raise TypeError(f"a transport attached no context to its request: {request!r}")
        return context

    def attach(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The scope of HTTP with this context in it."""
        return {**scope, _SCOPE_KEY: self}
