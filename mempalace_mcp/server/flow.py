"""The flow of one session's messages: how many requests run at once, and how much the client may leave unread.

`MessageQueue` starts messages in their order. `RequestTasks` runs requests. `Outbox` writes to the client, and `Pacing`
holds long results back while the client does not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.server.initialize import CONNECTION_CLOSED, RequestId
from mempalace_mcp.server.jsonrpc import Error, Result

logger = logging.getLogger(__name__)

ROOM_BYTES = 8 * 1024 * 1024
"""While a client leaves more than that unread, no new message of it is started."""

LOST_BYTES = 8 * ROOM_BYTES
"""A client that leaves more than that unread is disconnected."""

MAX_AT_WORK = 64
"""Requests of one session that run at once. The others wait; cancellations and responses overtake them."""

BACKLOG_BYTES = 32 * 1024 * 1024
"""Of waiting messages; above it no more messages are read."""

MESSAGE_BYTES = 512
"""Counted for each waiting message beside its own bytes."""

MAX_UNREAD_RESULTS = 12
"""Long results that are formed at once. Together with the bytes that a client may leave unread they stay below
`LOST_BYTES`. (The executor gives one client no more threads than that either.)"""

CLOSED = Error({"code": CONNECTION_CLOSED, "message": "Connection closed"})
"""Answers the requests that the end of a session interrupts."""

Write = Callable[[bytes], Awaitable[None]]
"""Sends one message, without a newline; raises anyio's `BrokenResourceError` when the client is gone."""

Work = Callable[[], Awaitable[Result | Error]]
"""Forms the answer to a request."""

Finish = Callable[[Result | Error | None], Coroutine[Any, Any, None]]
"""Settles a request with its answer; None if the client has cancelled it, and wants no answer."""


class Outbox:
    """Writes the messages to the client, one at a time."""

    def __init__(self, write: Write) -> None:
        self.broken = anyio.Event()
        """Set once a message could not be delivered."""
        self._write = write
        self._writing = anyio.Lock(fast_acquire=True)
        self._unfinished: set[anyio.CancelScope] = set()
        self._unsent = 0
        self._sent = anyio.Event()
        self._aborted = False

    async def send(self, data: bytes) -> None:
        """Write one whole message: a cancellation does not interrupt it.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the client is gone.
        """
        if self._aborted:
            raise anyio.ClosedResourceError
        self._unsent += len(data)
        with anyio.CancelScope(shield=True) as scope:
            self._unfinished.add(scope)
            try:
                self._verify_amount()
                async with self._writing:
                    await self._write(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.broken.set()
                raise
            finally:
                self._unfinished.discard(scope)
                self._unsent -= len(data)
                self._sent.set()

    @property
    def has_room(self) -> bool:
        """True if the client has read most of the messages."""
        return self._unsent <= ROOM_BYTES

    async def wait_for_room(self) -> None:
        """Wait until the client has read most of the messages."""
        while not self.has_room:
            if self._sent.is_set():
                self._sent = anyio.Event()
            await self._sent.wait()

    def abort(self) -> None:
        """Drop all messages that the client has not read."""
        self._aborted = True
        for scope in self._unfinished:
            scope.cancel()

    def _verify_amount(self) -> None:
        if self._unsent > LOST_BYTES:
            logger.warning("a client leaves %s bytes unread: its session is closed", f"{self._unsent:,}")
            raise anyio.BrokenResourceError


class Pacing:
    """Held while a long result is formed. It is entered when the client has read most of the messages."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._results = anyio.Semaphore(MAX_UNREAD_RESULTS, fast_acquire=True)

    async def __aenter__(self) -> None:
        await self._results.acquire()
        try:
            await self._outbox.wait_for_room()
        except BaseException:
            self._results.release()
            raise

    async def __aexit__(self, *exception: object) -> None:
        self._results.release()


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message of `size` bytes. `start` starts it; `finish` settles it without starting it, if it is a request."""

    size: int
    start: Callable[[], Awaitable[None]]
    finish: Finish | None = None
    request_id: RequestId | None = None


class MessageQueue:
    """Starts messages in their order, while few enough requests run and the client reads."""

    def __init__(self, outbox: Outbox) -> None:
        self.in_flight = 0
        """Requests that have arrived and are not settled."""
        self._outbox = outbox
        self._waiting: dict[int, QueuedMessage] = {}
        self._requests_waiting = self._bytes = self._last = 0
        self._is_catching_up = False
        self._removed, self._settled = anyio.Event(), anyio.Event()

    async def wait_for_room(self) -> None:
        """Wait until few enough messages wait."""
        while self._bytes > BACKLOG_BYTES:
            if self._removed.is_set():
                self._removed = anyio.Event()
            await self._removed.wait()

    async def take(self, message: QueuedMessage, tasks: TaskGroup) -> None:
        """Start a message, or queue it behind the others for a task of that group."""
        is_request = message.finish is not None
        self.in_flight += is_request
        if self._waiting or self._is_busy or not self._outbox.has_room:
            self._add(message)
            if not self._is_catching_up:
                self._is_catching_up = True
                tasks.start_soon(self._catch_up)
            return
        try:
            await message.start()
        except BaseException:
            if is_request:
                self.settle()
            raise

    def settle(self) -> None:
        """Count a request as settled."""
        self.in_flight -= 1
        self._settled.set()

    async def next_settled(self) -> None:
        """Wait until some request is settled."""
        if self._settled.is_set():
            self._settled = anyio.Event()
        await self._settled.wait()

    def pop_request(self, request_id: RequestId) -> QueuedMessage | None:
        """Remove the last waiting request with that id."""
        for number, message in reversed(self._waiting.items()):
            if type(message.request_id) is type(request_id) and message.request_id == request_id:
                return self._remove(number)
        return None

    async def end(self) -> None:
        """Answer all waiting requests as interrupted."""
        while self._waiting:
            message = self._remove(next(iter(self._waiting)))
            if message.finish is not None:
                await message.finish(CLOSED)

    async def _catch_up(self) -> None:
        try:
            while self._waiting:
                await self._outbox.wait_for_room()
                while self._is_busy:
                    await self.next_settled()
                if not self._waiting:  # cancelled meanwhile
                    return
                message = self._remove(next(iter(self._waiting)))
                try:
                    await message.start()
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session is over
                    if message.finish is not None:
                        self.settle()
        finally:
            self._is_catching_up = False

    @property
    def _is_busy(self) -> bool:
        return self.in_flight - self._requests_waiting >= MAX_AT_WORK

    def _add(self, message: QueuedMessage) -> None:
        self._last += 1
        self._waiting[self._last] = message
        self._bytes += message.size + MESSAGE_BYTES
        self._requests_waiting += message.finish is not None

    def _remove(self, number: int) -> QueuedMessage:
        message = self._waiting.pop(number)
        self._bytes -= message.size + MESSAGE_BYTES
        self._requests_waiting -= message.finish is not None
        self._removed.set()
        return message


class RequestTasks:
    """Runs each request in a task that can be cancelled until there is an answer; sending the answer is not cancelled.

    They are plain tasks of asyncio: in a task group of anyio, each with a cancel scope, a small call takes a sixth
    longer.
    """

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._failure: BaseException | None = None
        self._by_id: dict[RequestId, _Request] = {}
        """Clients may use an id twice; it then names the later request."""
        self._by_task: dict[asyncio.Task[None], _Request] = {}

    def start(self, request_id: RequestId, work: Work, finish: Finish) -> None:
        """Start the work; its answer goes to `finish`."""
        request = self._by_id[request_id] = _Request(work, finish)
        request.task = asyncio.get_running_loop().create_task(self._run(request_id, request))
        self._by_task[request.task] = request
        request.task.add_done_callback(self._note_end)

    def cancel(self, request_id: RequestId) -> bool:
        """Cancel the request without an answer. False if no such request runs."""
        request = self._by_id.get(request_id)
        if request is not None:
            request.cancel(None)
        return request is not None

    async def end(self) -> None:
        """Cancel all requests, answer them as interrupted, and wait for their tasks.

        Raises:
            Exception: the first unexpected error of a request's work.
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
            await request.finish(request.answer)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        del self._by_task[task]
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._failure = failure
            self._on_failure()


class _Request:
    """A request at work. Its `answer` is `CLOSED` if the work fails, since that ends the session."""

    __slots__ = ("_cancelled", "_formed", "_started", "_work", "answer", "finish", "task")

    def __init__(self, work: Work, finish: Finish) -> None:
        self._work = work
        self._started = self._cancelled = self._formed = False
        self.answer: Result | Error | None = CLOSED
        self.finish = finish
        self.task: asyncio.Task[None]

    async def run(self) -> None:
        """Form the answer, unless it is cancelled before."""
        try:
            if not self._cancelled:
                self._started = True
                self.answer = await self._work()
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            while self.task.uncancel():  # `finish` runs undisturbed
                pass
        finally:
            self._formed = True

    def cancel(self, answer: Error | None) -> None:
        """Cancel the work, and answer so instead. The first cancellation decides the answer."""
        if self._formed:
            return
        if not self._cancelled:
            self._cancelled, self.answer = True, answer
        if self._started:  # a task that is cancelled before its first step would never run, and so never finish
            self.task.cancel()
