"""One session of the SDK's server, between two streams of ours, for what sessions are not answered plainly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import anyio
from mcp.server.lowlevel import NotificationOptions
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from pydantic_core import to_json

from mempalace_mcp.protocol.handshake import INITIALIZE
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.revisions import RequestId
from mempalace_mcp.protocol.server import PalaceServer

_REPEATED = "the handshake, repeated"


class Stage(Protocol):
    """The session that the client sees."""

    tools_change: bool

    async def answer(self, request_id: RequestId, body: bytes) -> None:
        """Settle a request; the body is its result or its error, with that key."""
        ...

    async def unanswered(self, origin: Origin) -> None:
        """A request is settled, and nothing is to be written for it."""
        ...

    async def tell(self, message: bytes) -> None:
        """Write a message that answers nothing."""
        ...


class SdkSession:
    """`serve` runs as long as the client's session; `take` hands over its messages."""

    def __init__(self, server: PalaceServer, stage: Stage) -> None:
        self.shaken = False
        """True once the SDK has done the handshake with the client itself."""
        self._server = server
        self._stage = stage
        self._sink, self._source = anyio.create_memory_object_stream[SessionMessage](0)
        self._handshake: RequestId | None = None
        self._repeated = anyio.Event()
        self._ended = anyio.Event()

    async def serve(self) -> None:
        """Answer until the session is closed; what is in flight then is answered as cancelled."""
        changes = NotificationOptions(tools_changed=self._stage.tools_change, resources_changed=True)
        options = self._server.create_initialization_options(changes)
        try:
            await self._server.run(self._source, _Answers(self), options)
        finally:
            self._sink.close()
            self._source.close()
            self._repeated.set()
            self._ended.set()

    async def repeat(self, handshake: Sequence[Mapping[str, Any]]) -> None:
        """Let the SDK know what was agreed without it, beginning with `initialize`.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        initialize, *rest = handshake
        await self._sink.send(SessionMessage(_read({**initialize, "id": _REPEATED})))
        await self._repeated.wait()
        for message in rest:
            await self._sink.send(SessionMessage(_read(message)))

    async def take(self, content: Mapping[str, Any], origin: Origin) -> None:
        """Take one verified message from there; returns when it has been handed over.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if content.get("method") == INITIALIZE and "id" in content:
            self._handshake = content["id"]
        metadata = ServerMessageMetadata(
            request_context=origin, on_request_unanswered=partial(self._stage.unanswered, origin)
        )
        await self._sink.send(SessionMessage(_read(content), metadata))

    async def close(self) -> None:
        """Take no more messages; returns when `serve` has nothing more to say."""
        self._sink.close()
        await self._ended.wait()

    async def pass_on(self, message: JSONRPCMessage) -> None:
        """Give the session what the SDK has to say."""
        if not isinstance(message, JSONRPCResponse | JSONRPCError) or message.id is None:
            await self._stage.tell(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        elif message.id == _REPEATED and not self._repeated.is_set():
            self._repeated.set()
        else:
            if message.id == self._handshake:
                self._handshake, self.shaken = None, self.shaken or isinstance(message, JSONRPCResponse)
            await self._stage.answer(message.id, _body(message))


def _read(content: Mapping[str, Any]) -> JSONRPCMessage:
    kind: type[JSONRPCMessage]
    if "method" in content:
        kind = JSONRPCRequest if "id" in content else JSONRPCNotification
    else:
        kind = JSONRPCResponse if "result" in content else JSONRPCError
    return kind.model_validate(content, by_name=False)


def _body(message: JSONRPCResponse | JSONRPCError) -> bytes:
    if isinstance(message, JSONRPCResponse):
        return b'"result":' + to_json(message.result)
    return b'"error":' + message.error.model_dump_json(by_alias=True, exclude_unset=True).encode()


class _Answers:
    """The write stream that the SDK is given."""

    def __init__(self, session: SdkSession) -> None:
        self._session = session

    async def send(self, item: SessionMessage, /) -> None:
        await self._session.pass_on(item.message)

    async def aclose(self) -> None:
        """The session outlives the SDK's use of it."""

    async def __aenter__(self) -> _Answers:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()
