"""One MCP session with one client, over any transport.

The transport calls `receive` with each message of the client. A message waits in the queue (`flow.py`) until few enough
requests run. Then it takes one of two paths:

- The handshake and plain requests are all that common clients send. They are answered by the handlers of `methods.py`,
  each request in a task of its own.
- Everything else goes to the SDK (`sdk.py`), which calls the same handlers. The first such message imports the SDK and
  repeats the handshake for it; from then on the SDK serves beside this session.

Cancellations do not wait in the queue. Every request is answered, even if it is unreadable or the session ends; the SDK
alone would drop such requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.runtime.activity import SessionActivity
from mempalace_mcp.server.flow import MessageQueue, Outbox, Pacing, QueuedMessage, RequestTasks, Write
from mempalace_mcp.server.initialize import (
    INITIALIZE,
    INITIALIZED,
    RequestId,
    assumed_handshake,
    is_modern,
    needs_handshake,
)
from mempalace_mcp.server.jsonrpc import Error, Message, Refusal, Result, encode, encode_response, read_message
from mempalace_mcp.server.lines import Overlong
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.request_context import RequestContext, SessionContext
from mempalace_mcp.server.subscriptions import Subscriber, Subscriptions

if TYPE_CHECKING:
    from mempalace_mcp.server.sdk import SdkSession

CANCELLED = "notifications/cancelled"

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Session:
    """`serve` runs for the whole session; `receive` takes the client's messages one by one."""

    tools_change = False
    """True if the client may be notified that the list of tools changed."""

    def __init__(self, server: MethodServer, activity: SessionActivity, write: Write) -> None:
        self.finished = anyio.Event()
        """Set once `serve` has sent its last message."""
        self._server = server
        self._tasks: TaskGroup
        self._started, self._closing = anyio.Event(), anyio.Event()
        self._outbox = Outbox(write)
        self._queue = MessageQueue(self._outbox)
        self._requests = RequestTasks(self.close)
        self._subscriptions = Subscriptions(self._start_notifying)
        self.context = SessionContext(activity, self._subscriptions, self._notify, Pacing(self._outbox))
        """Shared by all requests of this session."""
        self._handshake: dict[str, Mapping[str, Any]] = {}
        """The client's messages of a handshake without the SDK, by their methods."""
        self._initialize_id: RequestId | None = None
        """The id of an `initialize` that the SDK has not answered yet."""
        self._is_modern = False
        """True once the client has sent a request of a revision without a handshake."""
        self._sdk: SdkSession | None = None
        self._sdk_lock = anyio.Lock()

    @property
    def broken(self) -> anyio.Event:
        """Set once a message could not be delivered."""
        return self._outbox.broken

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and are not answered yet."""
        return self._queue.in_flight

    async def serve(self) -> None:
        """Answer until the session is closed; requests in flight are then cancelled, and answered as interrupted."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._started.set()
                await self._closing.wait()
                if self._sdk is not None:
                    await self._sdk.close()
                self._tasks.cancel_scope.cancel()
        finally:
            self._closing.set()
            try:
                with anyio.CancelScope(shield=True):
                    await self._requests.end()
                    await self._queue.end()
            finally:
                self._subscriptions.close()
                self.finished.set()

    async def receive(self, data: bytes | Overlong, access: Principal = FULL, client_id: str | None = None) -> None:
        """Take one message of a caller with that access; returns when it has started, or waits in the queue.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        message = read_message(data)
        if isinstance(message, Refusal):
            refusal = message.answer()
            refuse = partial(self._refuse, refusal)
            await self._enqueue(QueuedMessage(len(refusal), partial(self._start_refusing, refusal), refuse))
        else:
            size = len(data) if isinstance(data, bytes) else 0
            request = RequestContext.of_message(self.context, message, size, access=access, session_id=client_id)
            await self.take(message, request)

    async def take(self, message: Message, request: RequestContext) -> None:
        """Take one well-formed message; returns when it has started, or waits in the queue.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        content = message.content
        if "method" in content and "id" in content:
            start = partial(self._start_request, content, request)
            finish = partial(self._finish, content["id"], request)
            await self._enqueue(QueuedMessage(request.size, start, finish, content["id"]))
        elif "method" in content and content["method"] != CANCELLED:
            await self._enqueue(QueuedMessage(request.size, partial(self._take_notification, content, request)))
        else:  # cancellations and responses do not wait
            await self._verify_open()
            await self._take_notification(content, request)

    async def drain(self, seconds: float) -> None:
        """Wait until everything in flight is answered, at most that long. Streams of changes end at once."""
        self._subscriptions.end_streams()
        with anyio.move_on_after(seconds):
            while self.in_flight:
                await self._queue.next_settled()

    async def answer_all(self, idle_seconds: float) -> None:
        """Wait until everything in flight is answered, or nothing was for so long. Streams of changes end at once."""
        self._subscriptions.end_streams()
        while self.in_flight:
            with anyio.move_on_after(idle_seconds) as waiting:
                await self._queue.next_settled()
            if waiting.cancelled_caught:
                return

    def close(self) -> None:
        """Take no more messages; `serve` returns soon after."""
        self._closing.set()

    def abort(self) -> None:
        """Close, and drop the messages that the client does not read."""
        self.close()
        self._outbox.abort()

    # Requests, from the queue to the answer.

    async def _enqueue(self, message: QueuedMessage) -> None:
        await self._queue.wait_for_room()
        await self._verify_open()
        await self._queue.take(message, self._tasks)

    async def _verify_open(self) -> None:
        if not self._started.is_set():
            await self._started.wait()
        if self._closing.is_set():
            raise anyio.ClosedResourceError

    async def _start_request(self, content: Mapping[str, Any], request: RequestContext) -> None:
        """Start a plain request or a handshake here, any other request in the SDK."""
        self._is_modern = self._is_modern or is_modern(content)
        has_begun = self._is_initialized or self._is_modern or self._initialize_id is not None
        if not has_begun and needs_handshake(content):  # a client may go on after its stream was cut
            await self._assume_handshake()
        method, finish = content["method"], partial(self._finish, content["id"], request)
        if self._is_initialized and self._server.is_plain(content):
            work = partial(self._server.answer, method, request, content.get("params") or {})
            self._requests.start(content["id"], work, finish)
        elif method == INITIALIZE and (result := self._initialize(content)) is not None:
            self._tasks.start_soon(finish, result)
        else:
            if method == INITIALIZE:
                self._initialize_id = content["id"]
            await self._pass_to_sdk(content, request)

    async def _finish(self, request_id: RequestId, request: RequestContext, answer: Result | Error | None) -> None:
        """Send the answer, unless the client has cancelled the request."""
        with contextlib.suppress(*_GONE):
            if answer is None:
                await self.settle_unanswered(request)
            else:
                await self.send_response(request_id, answer)

    async def _start_refusing(self, refusal: bytes) -> None:
        self._tasks.start_soon(self._refuse, refusal, None)

    async def _refuse(self, refusal: bytes, _: Result | Error | None) -> None:
        """Answer a message that is not well-formed, even if the session ends."""
        with contextlib.suppress(*_GONE):
            try:
                await self.send(refusal)
            finally:
                self._queue.settle()

    # The handshake.

    @property
    def _is_initialized(self) -> bool:
        return bool(self._handshake) or (self._sdk is not None and self._sdk.initialized)

    def _initialize(self, content: Mapping[str, Any]) -> Result | None:
        """The result of `initialize`, or None if the SDK must verify the request, or already serves the session."""
        params = content.get("params")
        client = (params or {}).get("clientInfo")
        self.context.activity.introduce(client.get("name") if isinstance(client, dict) else None)
        result = None if self._sdk else self._server.initialize(params, tools_change=self.tools_change)
        if result is not None:
            self._handshake[INITIALIZE] = content
        return result

    async def _assume_handshake(self) -> None:
        """Go on as if there had been a handshake."""
        async with self._sdk_lock:
            if not self._is_initialized:
                self._handshake.update(assumed_handshake())
                if self._sdk is not None:
                    await self._sdk.repeat(self._handshake.values())

    # Notifications and responses.

    async def _take_notification(self, content: Mapping[str, Any], request: RequestContext) -> None:
        if content.get("method") == CANCELLED and self._cancel((content.get("params") or {}).get("requestId")):
            return
        if self._sdk is not None or not self._is_initialized:
            await self._pass_to_sdk(content, request)
        elif content.get("method") == INITIALIZED:  # without the SDK no other notification has an effect
            self._handshake[INITIALIZED] = content

    def _cancel(self, request_id: object) -> bool:
        """Cancel a request that waits or runs here. False if there is none: it may run in the SDK."""
        if not isinstance(request_id, str | int):
            return False
        waiting = self._queue.pop_request(request_id)
        if waiting is None or waiting.finish is None:
            return self._requests.cancel(request_id)
        self._tasks.start_soon(waiting.finish, None)
        return True

    # The SDK.

    async def _pass_to_sdk(self, content: Mapping[str, Any], request: RequestContext) -> None:
        async with self._sdk_lock:
            sdk = self._sdk = self._sdk or await self._load_sdk()
        await sdk.take(content, request)

    async def _load_sdk(self) -> SdkSession:
        server = await self._server.sdk_server()
        if self._closing.is_set():
            raise anyio.ClosedResourceError
        from mempalace_mcp.server.sdk import SdkSession

        sdk = SdkSession(server, self)
        self._tasks.start_soon(sdk.serve)
        if self._handshake:
            await sdk.repeat(self._handshake.values())
        return sdk

    # Messages to the client.

    async def send(self, data: bytes) -> None:
        """Write one whole message: a cancellation does not interrupt it.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the client is gone.
        """
        await self._outbox.send(data)

    async def send_message(self, message: bytes) -> None:
        """Send a message that is no response."""
        await self.send(message)

    async def send_response(self, request_id: RequestId, answer: Result | Error) -> None:
        """Settle a request with its answer."""
        if request_id == self._initialize_id:
            self._initialize_id = None
        try:
            await self.send(self.encode_response(request_id, answer))
        finally:
            self._queue.settle()

    def encode_response(self, request_id: RequestId, answer: Result | Error) -> bytes:
        """A response as it is written."""
        return encode_response(request_id, answer)

    async def settle_unanswered(self, request: RequestContext) -> None:
        """Settle a request that needs no answer."""
        self._queue.settle()

    def _start_notifying(self, subscriber: Subscriber) -> None:
        self._tasks.start_soon(self._notify_of_changes, subscriber)

    async def _notify_of_changes(self, subscriber: Subscriber) -> None:
        """Send a notification of each change, as fast as the client reads."""
        while not self.broken.is_set() and (events := await subscriber.next_events()) is not None:
            for method, params in events:
                await self._notify(method, params)

    async def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification, unless the client is gone."""
        with contextlib.suppress(*_GONE):
            await self.send_message(encode({"jsonrpc": "2.0", "method": method, "params": params}))
