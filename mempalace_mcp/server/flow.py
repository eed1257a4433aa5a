"""Turns and room: how many requests are worked at, and how much a client may leave unread.

What one client is to be told: whole messages, one at a time, and only so much that it has not taken yet.

Whose turn it is in a session: so many requests are worked at, the others wait, so that a cancellation is heard.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.server.initialize import RequestId

logger = logging.getLogger(__name__)

ROOM_BYTES = 8 * 1024 * 1024
"""While a client leaves more than that unread, nothing more is begun for it."""

LOST_BYTES = 8 * ROOM_BYTES
"""A client that leaves so much unread all the same is given up."""

Write = Callable[[bytes], Awaitable[None]]
"""Sends one message, without a newline; raises anyio's `BrokenResourceError` when the client is gone."""


class Outbox:
    """The way out of one session."""

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
        """Write one message whole: whatever is cancelled meanwhile, no half message stays behind.

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
        """Has the client taken most of what is there for it?"""
        return self._unsent <= ROOM_BYTES

    async def room(self) -> None:
        """Wait until it has."""
        while not self.has_room:
            if self._sent.is_set():
                self._sent = anyio.Event()
            await self._sent.wait()

    def abort(self) -> None:
        """Give up on messages that the client does not take."""
        self._aborted = True
        for scope in self._unfinished:
            scope.cancel()

    def _verify_amount(self) -> None:
        if self._unsent > LOST_BYTES:
            logger.warning("a client leaves %s bytes unread: its session is closed", f"{self._unsent:,}")
            raise anyio.BrokenResourceError


MAX_AT_WORK = 64
"""Requests of one session that are worked at; the next ones wait, and only cancellations and answers overtake them."""

BACKLOG_BYTES = 32 * 1024 * 1024
"""Of what waits; beyond it no more of the client's messages are read."""

MESSAGE_BYTES = 512
"""What a message takes beside its own bytes."""


Settle = Callable[[bytes | None], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message. `begin` takes it up; `give_up` settles the request that it is with that body, None if the client has
    cancelled it. What is no request has nothing to be settled."""

    size: int
    begin: Callable[[], Awaitable[None]]
    give_up: Settle | None = None
    request_id: RequestId | None = None


class Turns:
    """Begins with the messages in their order, as long as there is not too much to do or to be read by the client."""

    def __init__(self, outbox: Outbox) -> None:
        self.in_flight = 0
        """Requests that have arrived and are not settled."""
        self._outbox = outbox
        self._waiting: dict[int, Turn] = {}
        self._requests_waiting = self._bytes = self._last = 0
        self._is_catching_up = False
        self._left, self._settled = anyio.Event(), anyio.Event()

    async def room(self) -> None:
        """Wait until not too much waits."""
        while self._bytes > BACKLOG_BYTES:
            if self._left.is_set():
                self._left = anyio.Event()
            await self._left.wait()

    async def take(self, turn: Turn, tasks: TaskGroup) -> None:
        """Begin with a message, or let it wait behind the others, for a task of that group."""
        is_request = turn.give_up is not None
        self.in_flight += is_request
        if self._waiting or self._is_busy or not self._outbox.has_room:
            self._add(turn)
            if not self._is_catching_up:
                self._is_catching_up = True
                tasks.start_soon(self._catch_up)
            return
        try:
            await turn.begin()
        except BaseException:
            if is_request:
                self.settle()
            raise

    def settle(self) -> None:
        """A request is settled."""
        self.in_flight -= 1
        self._settled.set()

    async def next_settled(self) -> None:
        """Wait until some request is settled."""
        if self._settled.is_set():
            self._settled = anyio.Event()
        await self._settled.wait()

    def pop_request(self, request_id: RequestId) -> Turn | None:
        """The last request of that id that waits, which does not any more."""
        for number, turn in reversed(self._waiting.items()):
            if type(turn.request_id) is type(request_id) and turn.request_id == request_id:
                return self._remove(number)
        return None

    async def end(self, body: bytes) -> None:
        """Settle all that waits with that body."""
        while self._waiting:
            turn = self._remove(next(iter(self._waiting)))
            if turn.give_up is not None:
                await turn.give_up(body)

    async def _catch_up(self) -> None:
        try:
            while self._waiting:
                await self._outbox.room()
                while self._is_busy:
                    await self.next_settled()
                if not self._waiting:  # cancelled meanwhile
                    return
                turn = self._remove(next(iter(self._waiting)))
                try:
                    await turn.begin()
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session is over
                    if turn.give_up is not None:
                        self.settle()
        finally:
            self._is_catching_up = False

    @property
    def _is_busy(self) -> bool:
        return self.in_flight - self._requests_waiting >= MAX_AT_WORK

    def _add(self, turn: Turn) -> None:
        self._last += 1
        self._waiting[self._last] = turn
        self._bytes += turn.size + MESSAGE_BYTES
        self._requests_waiting += turn.give_up is not None

    def _remove(self, number: int) -> Turn:
        turn = self._waiting.pop(number)
        self._bytes -= turn.size + MESSAGE_BYTES
        self._requests_waiting -= turn.give_up is not None
        self._left.set()
        return turn
