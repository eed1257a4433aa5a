"""The requests of a session that are at work, each in a task that can be cancelled until there is an answer.

They are tasks of the event loop itself: those of a group of anyio's, each with a scope, would take a small call a sixth
longer. So whoever is answered finishes undisturbed here, and not because a scope shields it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mempalace_mcp.protocol.revisions import CONNECTION_CLOSED, RequestId

Work = Callable[[], Awaitable[bytes]]
"""Forms the body of an answer: its result or its error, with that key."""

Finish = Callable[[bytes | None], Awaitable[None]]
"""Sends the body; None if the client has cancelled the request, and wants no answer."""

CLOSED = b'"error":{"code":%d,"message":"Connection closed"}' % CONNECTION_CLOSED
"""The body that answers what the end of a session interrupts."""


class Answering:
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
