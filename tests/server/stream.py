"""A session in memory: what goes in as a line, what comes out as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.daemon.daemon_session import AppServices, ToolSelection, services_of
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.server.jsonrpc import Message, read_message
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.session import Session
from tests.palace.support import opened
from tests.server.clients import INITIALIZED, initialize, request

S = TypeVar("S", bound=Services)


class Wire(Generic[S]):
    """The client's end of a session."""

    def __init__(
        self, services: S, access: Principal = FULL, server: MethodServer | None = None, scope: str | None = None
    ) -> None:
        """`scope`: that of the idempotency keys which the transport makes of the numbers of messages."""
        self.services = services
        self.activity = services.activity.open(Transport.SOCKET)
        self._access = access
        self._scope = scope
        self._sink, self._source = anyio.create_memory_object_stream[bytes](1000)
        self.session = Session(server or MethodServer(services), self.activity, self._sink.send)

    async def send(self, message: Any, sequence: int | None = None) -> None:
        """Send a message, under a number of the transport if one is given."""
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        if self._access.is_full and sequence is None:
            await self.session.receive(line)
            return
        read = read_message(line)
        assert isinstance(read, Message)
        context = RequestContext.of_message(
            self.session.context, read, len(line), self._scope, sequence, access=self._access
        )
        await self.session.take(read, context)

    async def receive_line(self) -> bytes:
        """The next message, as it comes."""
        with anyio.fail_after(30):
            return await self._source.receive()

    async def receive(self) -> Any:
        """The next message, or the list that answers a batch."""
        return json.loads(await self.receive_line())

    @property
    def unread(self) -> int:
        return self._source.statistics().current_buffer_used

    async def ask(self, message: Any, sequence: int | None = None) -> Any:
        await self.send(message, sequence)
        return await self.receive()

    async def content(self, message: Any, sequence: int | None = None) -> dict[str, Any]:
        """What a tool answers, or how it refuses."""
        content: dict[str, Any] = (await self.ask(message, sequence))["result"]["structuredContent"]
        return content

    async def result(self, method: str, **params: Any) -> dict[str, Any]:
        """What a request that must succeed is answered with."""
        answer = await self.ask(request(1, method, **params))
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def error(self, method: str, **params: Any) -> dict[str, Any]:
        """How a request is refused; the shape is that of every refusal."""
        answer = await self.ask(request(1, method, **params))
        error: dict[str, Any] = answer["error"]
        assert set(error["data"]) >= {"code", "message", "argument", "hint", "retryable"}
        assert error["data"]["message"] in error["message"]
        return error

    async def greet(self, revision: str = "2025-11-25") -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask(initialize(revision))
        await self.send(INITIALIZED)
        return answer

    def close(self) -> None:
        self.session.abort()
        self._sink.close()
        self._source.close()
        self.activity.close()


class PalaceWire(Wire[AppServices]):
    """A session with a palace that finds by words alone."""

    def __init__(self, app: App, offer: ToolSelection, access: Principal, scope: str | None = None) -> None:
        super().__init__(services_of(app, offer), access, scope=scope)
        self.app = app
        self.palace = app.palace


@asynccontextmanager
async def served(services: S, server: MethodServer | None = None, access: Principal = FULL) -> AsyncIterator[Wire[S]]:
    """A session that ends with the block."""
    wire = Wire(services, access, server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.session.serve)
        try:
            yield wire
        finally:
            wire.close()


@asynccontextmanager
async def palace_session(
    directory: Path,
    offer: ToolSelection | None = None,
    access: Principal = FULL,
    *,
    greeted: bool = True,
    scope: str | None = None,
    **environment: str,
) -> AsyncIterator[PalaceWire]:
    """A session with the palace in the directory."""
    with opened(directory, started=False, **environment) as app:
        wire = PalaceWire(app, offer or ToolSelection(), access, scope)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.session.serve)
            tasks.start_soon(app.feed.watch)
            try:
                if greeted:
                    await wire.greet()
                yield wire
            finally:
                wire.close()
                tasks.cancel_scope.cancel()
