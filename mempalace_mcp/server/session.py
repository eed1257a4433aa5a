"""One conversation with one client, whatever carries its messages.

The requests of a session that are at work, each in a task that can be cancelled until there is an answer.

They are tasks of the event loop itself: those of a group of anyio's, each with a scope, would take a small call a sixth
longer. So whoever is answered finishes undisturbed here, and not because a scope shields it.

One conversation with one client, whatever carries its messages.

Plain requests are answered here, in the revisions that have a handshake: calls of tools and lists. Everything else is
the SDK's: on the first such message it is loaded, told what was agreed without it, and serves beside this session from
then on. (It ends a session by cancelling what is in flight, and drops messages that it cannot read. Here every message
gets its answer: unreadable ones are answered on the spot, and a session can be drained before it is closed.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.core.call_context import FULL, Principal
from mempalace_mcp.runtime.activity import SessionActivity
from mempalace_mcp.server.calls import Call, read_call
from mempalace_mcp.server.flow import Outbox, Settle, Turn, Turns, Write
from mempalace_mcp.server.initialize import (
    CONNECTION_CLOSED,
    INITIALIZE,
    INITIALIZED,
    PROGRESS_TOKEN,
    RequestId,
    assumed_handshake,
    is_enveloped,
    needs_handshake,
)
from mempalace_mcp.server.jsonrpc import Message, Refusal, read_message
from mempalace_mcp.server.lines import Overlong
from mempalace_mcp.server.methods import SessionServer
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.subscriptions import Subscriber, Subscriptions
from mempalace_mcp.server.tools.answers import present, to_json

if TYPE_CHECKING:
    from mempalace_mcp.server.sdk import SdkSession

Work = Callable[[], Awaitable[bytes]]
"""Forms the body of an answer: its result or its error, with that key."""

Finish = Callable[[bytes | None], Awaitable[None]]
"""Sends the body; None if the client has cancelled the request, and wants no answer."""

CLOSED = b'"error":{"code":%d,"message":"Connection closed"}' % CONNECTION_CLOSED
"""The body that answers what the end of a session interrupts."""


class RequestTasks:
    """Begins, cancels and ends what a session is asked for."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._failure: BaseException | None = None
        self._by_id: dict[RequestId, _Request] = {}
        """At work; clients use an id twice, and mean the later request by it."""
        self._by_task: dict[asyncio.Task[None], _Request] = {}

    def begin(self, request_id: RequestId, work: Work, finish: Finish) -> None:
        """Do the work and finish with what it forms; returns at once."""
        request = self._by_id[request_id] = _Request(work, finish)
        request.task = asyncio.get_running_loop().create_task(self._run(request_id, request))
        self._by_task[request.task] = request
        request.task.add_done_callback(self._note_end)

    def cancel(self, request_id: RequestId) -> bool:
        """Cancel the request for the client; one that has not begun never does. False if it is not at work."""
        request = self._by_id.get(request_id)
        if request is not None:
            request.cancel(None)
        return request is not None

    async def end(self) -> None:
        """Cancel whatever is at work, say so to the client, and return when all is finished.

        Raises:
            Exception: some work failed, which none should.
        """
        for request in self._by_task.values():
            request.cancel(CLOSED)
        if self._by_task:
            await asyncio.wait(list(self._by_task))
        if self._failure is not None:
            raise self._failure

    async def _run(self, request_id: RequestId, request: _Request) -> None:
        try:
            await request.run()
        finally:
            if self._by_id.get(request_id) is request:
                del self._by_id[request_id]
            await request.finish(request.body)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        del self._by_task[task]
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._failure = failure
            self._on_failure()


class _Request:
    """`body` is what answers it: should its work fail, that the session has ended, for so it does."""

    __slots__ = ("_begun", "_cancelled", "_formed", "_work", "body", "finish", "task")

    def __init__(self, work: Work, finish: Finish) -> None:
        self._work = work
        self._begun = self._cancelled = self._formed = False
        self.body: bytes | None = CLOSED
        self.finish = finish
        self.task: asyncio.Task[None]

    async def run(self) -> None:
        """Form the body, unless it is cancelled before."""
        try:
            if not self._cancelled:
                self._begun = True
                self.body = await self._work()
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            while self.task.uncancel():
                pass
        finally:
            self._formed = True

    def cancel(self, answer: bytes | None) -> None:
        """Who cancels first says what is answered. A task that is cancelled before its first step never takes one."""
        if self._formed:
            return
        if not self._cancelled:
            self._cancelled, self.body = True, answer
        if self._begun:
            self.task.cancel()


MAX_UNREAD_ANSWERS = 12
"""Answers of any length that may be formed at once, while nobody knows whether the client reads them: with what it may
leave unread they are less than what it is given up for. (Nor does the executor give one client so many threads.)"""

CANCELLED = "notifications/cancelled"


class Session:
    """`serve` runs for the whole conversation; `receive` takes the client's messages one by one."""

    tools_change = False
    """True if the client may be told that the list of tools has become another one."""

    def __init__(self, server: SessionServer, activity: SessionActivity, write: Write) -> None:
        self.finished = anyio.Event()
        """Set once `serve` has nothing more to say."""
        self._server = server
        self._activity = activity
        self._outbox = Outbox(write)
        self._begun, self._closing = anyio.Event(), anyio.Event()
        self._tasks: TaskGroup
        self._turns = Turns(self._outbox)
        self._forming = anyio.Semaphore(MAX_UNREAD_ANSWERS, fast_acquire=True)
        self._answering = RequestTasks(self.close)
        self._handshake: dict[str, Mapping[str, Any]] = {}
        """What was agreed without the SDK: the client's messages by their methods."""
        self._offer: RequestId | None = None
        """The request by which the client offers the SDK a handshake, until it is answered."""
        self._is_modern = False
        """Has the client spoken a revision that has no handshake?"""
        self._sdk: SdkSession | None = None
        self._loading = anyio.Lock()
        self._subscriptions = Subscriptions(self._begin_to_tell)

    @property
    def broken(self) -> anyio.Event:
        """Set once an answer could not be delivered."""
        return self._outbox.broken

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and are not answered yet."""
        return self._turns.in_flight

    async def serve(self) -> None:
        """Answer until the session is closed; then what is still in flight is cancelled, and answered as such."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._begun.set()
                await self._closing.wait()
                if self._sdk is not None:
                    await self._sdk.close()
                self._tasks.cancel_scope.cancel()
        finally:
            self._closing.set()
            try:
                with anyio.CancelScope(shield=True):
                    await self._answering.end()
                    await self._turns.end(CLOSED)
            finally:
                self._subscriptions.close()
                self.finished.set()

    async def receive(self, data: bytes | Overlong, access: Principal = FULL, client_id: str | None = None) -> None:
        """Take one message from a caller with that access; returns when it has been handed over or refused.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        message = read_message(data)
        if isinstance(message, Refusal):
            answer = message.answer()
            refuse = partial(self._refuse, answer)
            await self._queue(Turn(len(answer), partial(self._begin_refusing, refuse), refuse))
        else:
            size = len(data) if isinstance(data, bytes) else 0
            origin = RequestContext.of_message(self._activity, message, size, access=access)
            await self.take(message, replace(origin, session_id=client_id))

    async def take(self, message: Message, origin: RequestContext) -> None:
        """Take one message that was read, from there; returns when it has been handed over, or waits for its turn.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        content = message.content
        if _is_request(message):
            finish = partial(self._finish, content["id"], origin)
            await self._queue(Turn(origin.size, partial(self._take_request, content, origin), finish, content["id"]))
        elif "method" in content and content["method"] != CANCELLED:
            await self._queue(Turn(origin.size, partial(self._take_notice, message, origin)))
        else:
            await self._verify_open()
            await self._take_notice(message, origin)

    async def drain(self, seconds: float) -> None:
        """Wait until everything in flight is answered, at most that long. Streams of changes end at once."""
        self._subscriptions.end_streams()
        with anyio.move_on_after(seconds):
            while self.in_flight:
                await self._turns.next_settled()

    async def answer_all(self, patience: float) -> None:
        """Wait until everything in flight is answered, or nothing was for so long. Streams of changes end at once."""
        self._subscriptions.end_streams()
        while self.in_flight:
            with anyio.move_on_after(patience) as waiting:
                await self._turns.next_settled()
            if waiting.cancelled_caught:
                return

    def close(self) -> None:
        """Take no more messages; `serve` returns soon after."""
        self._closing.set()

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

    async def answer(self, request_id: RequestId, body: bytes) -> None:
        """Settle a request; the body is its result or its error, with that key."""
        if request_id == self._offer:
            self._offer = None
        try:
            await self.send(self.encode_answer(request_id, body))
        finally:
            self._turns.settle()

    async def tell(self, message: bytes) -> None:
        """Write a message that answers nothing."""
        await self.send(message)

    def encode_answer(self, request_id: RequestId, body: bytes) -> bytes:
        """An answer as it is written."""
        return b'{"jsonrpc":"2.0","id":%b,%b}' % (json.dumps(request_id).encode(), body)

    async def unanswered(self, origin: RequestContext) -> None:
        """A request is settled, and nothing was written for it."""
        self._turns.settle()

    async def _verify_open(self) -> None:
        if not self._begun.is_set():
            await self._begun.wait()
        if self._closing.is_set():
            raise anyio.ClosedResourceError

    async def _queue(self, turn: Turn) -> None:
        await self._turns.room()
        await self._verify_open()
        await self._turns.take(turn, self._tasks)

    async def _begin_refusing(self, refuse: Settle) -> None:
        self._tasks.start_soon(refuse, None)

    async def _refuse(self, answer: bytes, _: bytes | None) -> None:
        """Answer what was no message; so much can always be said."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            try:
                await self.send(answer)
            finally:
                self._turns.settle()

    async def _take_request(self, content: Mapping[str, Any], origin: RequestContext) -> None:
        self._is_modern = self._is_modern or is_enveloped(content)
        if not (self._is_shaken or self._is_modern or self._offer is not None) and needs_handshake(content):
            await self._assume_handshake()
        if self._is_shaken and (work := self._plain_work(content, origin)):
            finish = partial(self._finish, content["id"], origin)
            self._answering.begin(content["id"], work, finish)
        elif (result := self._plain_result(content, origin)) is not None:
            self._tasks.start_soon(self._finish, content["id"], origin, b'"result":' + result)
        else:
            if content["method"] == INITIALIZE:
                self._offer = content["id"]
            await self._hand_over(content, origin)

    async def _assume_handshake(self) -> None:
        """Go on as if there had been one."""
        async with self._loading:
            if not self._is_shaken:
                self._handshake.update(assumed_handshake())
                if self._sdk is not None:
                    await self._sdk.repeat(list(self._handshake.values()))

    async def _take_notice(self, message: Message, origin: RequestContext) -> None:
        """Take a message that is not to be answered. Without the SDK there is nothing that it could concern."""
        if self._cancel_call(message):
            return
        if self._sdk is None and self._is_shaken:
            if message.content.get("method") == INITIALIZED:
                self._handshake[INITIALIZED] = message.content
        else:
            await self._hand_over(message.content, origin)

    @property
    def _is_shaken(self) -> bool:
        return bool(self._handshake) or (self._sdk is not None and self._sdk.shaken)

    def _plain_result(self, content: Mapping[str, Any], origin: RequestContext) -> bytes | None:
        """The result of a request that is answered without the SDK."""
        method, params = content["method"], content.get("params")
        if method == INITIALIZE:
            self._activity.introduce(_name_of_client(params))
            welcome = None if self._sdk else self._server.greet(params, tools_change=self.tools_change)
            if welcome is not None:
                self._handshake[INITIALIZE] = content
            return welcome
        return self._server.answer(method, params, origin.access) if self._is_shaken else None

    def _plain_work(self, content: Mapping[str, Any], origin: RequestContext) -> Work | None:
        """What forms the answer to a call, or to another request that takes a while, without the SDK."""
        if call := read_call(content):
            work = partial(self._answer_to, call, origin)
            return work if self._server.calls.is_brief(call, origin) else partial(self._work_when_read, work)
        inquire = self._server.inquiry(content["method"], content.get("params"))
        if inquire is None:
            return None
        return partial(self._work_when_read, partial(inquire, replace(origin, subscriptions=self._subscriptions)))

    async def _hand_over(self, content: Mapping[str, Any], origin: RequestContext) -> None:
        """Let the SDK see to the message."""
        async with self._loading:
            sdk = self._sdk = self._sdk or await self._load_sdk()
        await sdk.take(content, replace(origin, subscriptions=self._subscriptions, pacing=self._pacing))

    async def _load_sdk(self) -> SdkSession:
        server = await self._server.sdk_server()
        if self._closing.is_set():
            raise anyio.ClosedResourceError
        from mempalace_mcp.server.sdk import SdkSession

        sdk = SdkSession(server, self)
        self._tasks.start_soon(sdk.serve)
        if self._handshake:
            await sdk.repeat(list(self._handshake.values()))
        return sdk

    async def _work_when_read(self, work: Work) -> bytes:
        async with self._forming:  # `_pacing` written out: it adds a twentieth
            await self._outbox.room()
            return await work()

    @contextlib.asynccontextmanager
    async def _pacing(self) -> AsyncIterator[None]:
        """Lasts while an answer of any length is formed; begins when the client reads what it was given."""
        async with self._forming:
            await self._outbox.room()
            yield

    async def _answer_to(self, call: Call, origin: RequestContext) -> bytes:
        if call.progress_token is None:
            return b'"result":' + (await self._server.calls.answer(call, origin)).encoded

        async def send(done: float, total: float | None, meaning: str | None) -> None:
            told = {PROGRESS_TOKEN: call.progress_token, "progress": done, "total": total, "message": meaning}
            await self._notify("notifications/progress", present(told))

        return b'"result":' + (await self._server.calls.answer_and_tell(call, origin, send)).encoded

    async def _finish(self, request_id: RequestId, origin: RequestContext, body: bytes | None) -> None:
        """Write the answer, which no cancelling interrupts, unless the client has cancelled the request itself."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            if body is None:
                await self.unanswered(origin)
            else:
                await self.answer(request_id, body)

    def _cancel_call(self, message: Message) -> bool:
        """True if the message cancels a request that went past the SDK."""
        if message.content.get("method") != CANCELLED:
            return False
        meant = (message.content.get("params") or {}).get("requestId")
        if not isinstance(meant, str | int):
            return False
        turn = self._turns.pop_request(meant)
        if turn is None or turn.give_up is None:
            return self._answering.cancel(meant)
        self._tasks.start_soon(turn.give_up, None)
        return True

    def _begin_to_tell(self, follower: Subscriber) -> None:
        self._tasks.start_soon(self._tell_news, follower)

    async def _tell_news(self, follower: Subscriber) -> None:
        """Tell the client the news, one by one, as fast as it reads."""
        while not self.broken.is_set() and (news := await follower.news()) is not None:
            for method, params in news:
                await self._notify(method, params)

    async def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell the client something that answers nothing, unless it is gone."""
        notification = {"jsonrpc": "2.0", "method": method, "params": params}
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.tell(to_json(notification).encode())


def _is_request(message: Message) -> bool:
    return "method" in message.content and "id" in message.content


def _name_of_client(params: Mapping[str, Any] | None) -> object:
    client = (params or {}).get("clientInfo")
    return client.get("name") if isinstance(client, dict) else None
