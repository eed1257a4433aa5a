"""One conversation with one client, whatever carries its messages: the SDK's server between two streams of ours.

The SDK ends a session by cancelling what is in flight, and drops messages that it cannot read. Here every message
gets its answer: unreadable ones are answered on the spot, and a session can be drained before it is closed. Once the
SDK has shaken hands, plain calls of tools go past it: its models and tasks take longer than most tools do.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from mcp.server.lowlevel import NotificationOptions
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from mempalace_mcp.core.access import FULL, Access
from mempalace_mcp.protocol.calls import Call, read_call
from mempalace_mcp.protocol.envelope import Message, Refusal, read_message
from mempalace_mcp.protocol.lines import Overlong
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.outbox import Outbox, Write
from mempalace_mcp.protocol.server import PalaceServer
from mempalace_mcp.protocol.subscriptions import Follower, Subscriptions
from mempalace_mcp.runtime.activity import SessionActivity

MAX_IN_FLIGHT = 64
"""Requests of one session that may be unanswered; the next one waits, and with it whatever is read after it."""

CANCELLED = "notifications/cancelled"
RequestId = str | int

_CLOSED = b'"error":{"code":%d,"message":"Connection closed"}' % CONNECTION_CLOSED


class Session:
    """`serve` runs for the whole conversation; `receive` takes the client's messages one by one."""

    def __init__(self, server: PalaceServer, activity: SessionActivity, write: Write) -> None:
        self.finished = anyio.Event()
        """Set once `serve` has nothing more to say."""
        self._server = server
        self._activity = activity
        self._outbox = Outbox(write)
        self._closed = False
        self._sink, self._source = anyio.create_memory_object_stream[SessionMessage](0)
        self._in_flight = 0
        self._settled = anyio.Event()
        self._handshake: RequestId | None = None
        self._shaken = False
        self._calls: dict[RequestId, anyio.CancelScope] = {}
        self._calling: TaskGroup | None = None
        self._subscriptions = Subscriptions(self._begin_to_tell)

    @property
    def broken(self) -> anyio.Event:
        """Set once an answer could not be delivered."""
        return self._outbox.broken

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and are not answered yet."""
        return self._in_flight

    async def serve(self) -> None:
        """Answer until the session is closed; then what is still in flight is cancelled, and answered as such."""
        try:
            options = self._server.create_initialization_options(self.notification_options())
            async with anyio.create_task_group() as self._calling:
                await self._server.run(self._source, _Answers(self), options)
                self._calling.cancel_scope.cancel()
        finally:
            self._closed = True
            self._subscriptions.close()
            self._source.close()
            self.finished.set()

    def notification_options(self) -> NotificationOptions:
        """Which changes the client may be told of."""
        return NotificationOptions(resources_changed=True)

    async def receive(self, data: bytes | Overlong, access: Access = FULL) -> None:
        """Take one message from a caller with that access; returns when it has been handed over or refused.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        message = read_message(data)
        if isinstance(message, Refusal):
            await self.send(message.answer())
        else:
            size = len(data) if isinstance(data, bytes) else 0
            await self.take(message, Origin.of_message(self._activity, message, size, access=access))

    async def take(self, message: Message, origin: Origin) -> None:
        """Take one message that was read, from there; returns when it has been handed over.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        await self._outbox.room()
        if self._closed:
            raise anyio.ClosedResourceError
        if self._calling is None or not self._shaken:
            await self._hand_over(message, origin)
        elif call := read_call(message.content):
            await self._fewer_in_flight_than(MAX_IN_FLIGHT)
            self._in_flight += 1
            request_id = message.content["id"]
            scope = self._calls[request_id] = anyio.CancelScope()
            self._calling.start_soon(self._call, scope, request_id, call, origin)
        elif not self._cancel_call(message):
            await self._hand_over(message, origin)

    async def drain(self, seconds: float) -> None:
        """Wait until everything in flight is answered, at most that long. Streams of changes end at once."""
        self._subscriptions.end_streams()
        with anyio.move_on_after(seconds):
            await self._fewer_in_flight_than(1)

    def close(self) -> None:
        """Take no more messages; `serve` returns soon after."""
        self._closed = True
        self._sink.close()

    def abort(self) -> None:
        """Close, and give up on answers that the client does not take."""
        self.close()
        self._outbox.abort()

    async def send(self, data: bytes) -> None:
        """Write one message whole: whatever is cancelled meanwhile, no half answer stays behind.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the client is gone.
        """
        await self._outbox.send(data)

    async def answer(self, message: SessionMessage) -> None:
        """Write what the SDK has to say, and note which request it settles."""
        if self._handshake is not None and getattr(message.message, "id", None) == self._handshake:
            self._handshake, self._shaken = None, isinstance(message.message, JSONRPCResponse)
        try:
            await self.send(self.encode(message.message))
        finally:
            if isinstance(message.message, (JSONRPCResponse, JSONRPCError)):
                self._settle()

    def encode(self, message: JSONRPCMessage) -> bytes:
        """A message of the SDK as it is written."""
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode()

    def encode_answer(self, request_id: RequestId, body: bytes) -> bytes:
        """An answer to a call that went past the SDK; the body is its result or its error."""
        return b'{"jsonrpc":"2.0","id":%b,%b}' % (json.dumps(request_id).encode(), body)

    async def unanswered(self, origin: Origin) -> None:
        """A request is settled, and nothing was written for it."""
        self._settle()

    async def _hand_over(self, message: Message, origin: Origin) -> None:
        """Let the SDK see to the message."""
        origin = replace(origin, subscriptions=self._subscriptions)
        metadata = ServerMessageMetadata(request_context=origin, on_request_unanswered=partial(self.unanswered, origin))
        parsed = jsonrpc_message_adapter.validate_python(message.content, by_name=False)
        counted = isinstance(parsed, JSONRPCRequest)
        if isinstance(parsed, JSONRPCRequest):
            await self._fewer_in_flight_than(MAX_IN_FLIGHT)
            if parsed.method == "initialize":
                self._handshake = parsed.id
                self._activity.introduce(_name_of_client(parsed.params))
        self._in_flight += counted
        try:
            await self._sink.send(SessionMessage(parsed, metadata))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._in_flight -= counted
            raise

    async def _call(self, scope: anyio.CancelScope, request_id: RequestId, call: Call, origin: Origin) -> None:
        """Answer the call; if the session ends first, say so. One that is cancelled already does not begin."""
        body = _CLOSED
        try:
            with scope:
                await anyio.lowlevel.checkpoint_if_cancelled()
                await self._outbox.room()
                answer = await self._server.calls.answer(call, origin)
                body = b'"result":' + answer.encoded
        finally:
            if self._calls.get(request_id) is scope:
                del self._calls[request_id]
            with anyio.CancelScope(shield=True):
                await self._finish_call(request_id, origin, None if scope.cancel_called else body)

    async def _finish_call(self, request_id: RequestId, origin: Origin, body: bytes | None) -> None:
        """Write the answer, unless the client has cancelled the call and wants none."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            if body is None:
                await self.unanswered(origin)
                return
            try:
                await self.send(self.encode_answer(request_id, body))
            finally:
                self._settle()

    def _cancel_call(self, message: Message) -> bool:
        """True if the message cancels a call that went past the SDK."""
        if message.content.get("method") != CANCELLED:
            return False
        meant = (message.content.get("params") or {}).get("requestId")
        scope = self._calls.get(meant) if isinstance(meant, str | int) else None
        if scope is not None:
            scope.cancel()
        return scope is not None

    def _begin_to_tell(self, follower: Follower) -> None:
        assert self._calling is not None
        self._calling.start_soon(self._tell, follower)

    async def _tell(self, follower: Follower) -> None:
        """Tell the client the news, one by one, as fast as it reads."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while (news := await follower.news()) is not None:
                for method, params in news:
                    await self.send(self.encode(JSONRPCNotification(jsonrpc="2.0", method=method, params=params)))

    def _settle(self) -> None:
        self._in_flight -= 1
        self._settled.set()

    async def _fewer_in_flight_than(self, limit: int) -> None:
        while self._in_flight >= limit:
            if self._settled.is_set():
                self._settled = anyio.Event()
            await self._settled.wait()


def _name_of_client(params: Mapping[str, Any] | None) -> object:
    client = (params or {}).get("clientInfo")
    return client.get("name") if isinstance(client, dict) else None


class _Answers:
    """The write stream that the SDK is given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def send(self, item: SessionMessage, /) -> None:
        await self._session.answer(item)

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
