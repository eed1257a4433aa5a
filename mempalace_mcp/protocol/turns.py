"""Whose turn it is in a session: so many requests are worked at, the others wait, so that a cancellation is heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.protocol.outbox import Outbox
from mempalace_mcp.protocol.revisions import RequestId

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
