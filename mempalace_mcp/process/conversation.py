"""A session with a bridge: to the SDK each request has the number of its frame as its id.

Clients use ids twice, and to the SDK `"7"` and `7` are one; frames are numbered once. The client's own id is put back
into the answer, and a cancellation is pointed at the request in flight that it means.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp.process.frames import AGAIN, ALONE, NOTICE, OWN_MESSAGE, SUSPECT, Frame
from mempalace_mcp.protocol.envelope import Message, Refusal, read_message
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.outbox import Write
from mempalace_mcp.protocol.plain import SessionServer
from mempalace_mcp.protocol.revisions import RequestId
from mempalace_mcp.protocol.session import CANCELLED, Session
from mempalace_mcp.runtime.activity import SessionActivity


class Conversation(Session):
    """`receive_frame` takes the bridge's frames one by one; `write` sends encoded ones."""

    tools_change = True
    """After an upgrade the bridge says that the list of tools may be another one."""

    def __init__(
        self,
        server: SessionServer,
        activity: SessionActivity,
        write: Write,
        *,
        bridge: str,
        suspicion: anyio.Lock,
        tasks: TaskGroup,
    ) -> None:
        super().__init__(server, activity, write)
        self._own_activity = activity
        self._bridge = bridge
        self._suspicion = suspicion
        self._tasks = tasks
        self._ids: dict[int, RequestId] = {}
        self._suspects: dict[int, anyio.Event] = {}
        self._waiting: dict[int, anyio.CancelScope] = {}

    async def receive_frame(self, frame: Frame) -> None:
        """Take one frame; returns when it has been handed over, refused or settled.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if frame.sequence == OWN_MESSAGE:
            await self.send(Frame(OWN_MESSAGE, b"{}", NOTICE).encode())
            return
        message = read_message(frame.line)
        if isinstance(message, Refusal):
            await self._say(frame.sequence, message.answer())
        elif "method" in message.content and "id" in message.content:
            self._ids[frame.sequence] = message.content["id"]
            numbered = Message({**message.content, "id": frame.sequence}, message.fault)
            origin = Origin.of_message(self._own_activity, message, len(frame.line), self._bridge, frame.sequence)
            if frame.mark == AGAIN:
                origin = replace(origin, resent=True)
            if frame.mark == SUSPECT:
                waiting = self._waiting[frame.sequence] = anyio.CancelScope()
                self._tasks.start_soon(self._take_alone, waiting, numbered, origin)
            else:
                await self.take(numbered, origin)
        else:
            pointed = self._pointed(message)
            if pointed is not None and not self._give_up_waiting(pointed):
                await self.take(pointed, Origin.of_message(self._own_activity, message, len(frame.line)))
            await self._say(frame.sequence, b"")

    async def tell(self, message: bytes) -> None:
        """Write a message that answers nothing."""
        await self.send(Frame(OWN_MESSAGE, message).encode())

    def encode_answer(self, request_id: RequestId, body: bytes) -> bytes:
        """The answer as a frame, with the client's own id in it."""
        assert isinstance(request_id, int)
        return Frame(request_id, super().encode_answer(self._restore(request_id), body)).encode()

    async def unanswered(self, origin: Origin) -> None:
        """The request was cancelled: the bridge can forget it."""
        await super().unanswered(origin)
        if origin.sequence is not None:
            self._restore(origin.sequence)
            await self._say(origin.sequence, b"")

    async def say_goodbye(self, reason: str) -> None:
        """Tell the bridge that this process leaves, which is no harm; returns once the bridge has it, or is gone."""
        said = anyio.Event()

        async def say() -> None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                notice = json.dumps({"goodbye": reason}).encode()
                await self.send(Frame(OWN_MESSAGE, notice, NOTICE).encode())
            said.set()

        self._tasks.start_soon(say)  # writes cannot be cancelled, waiting for them can
        await said.wait()

    async def _take_alone(self, waiting: anyio.CancelScope, message: Message, origin: Origin) -> None:
        """Run a request that may be the death of this process, with no other such one beside it."""
        assert origin.sequence is not None
        with waiting, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._suspicion:
                settled = self._suspects[origin.sequence] = anyio.Event()
                await self.send(Frame(origin.sequence, b"", ALONE).encode())
                if self._waiting.pop(origin.sequence, None):
                    await self.take(message, origin)
                    await settled.wait()
        if waiting.cancel_called:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._restore(origin.sequence)
                await self._say(origin.sequence, b"")

    def _give_up_waiting(self, message: Message) -> bool:
        """True if the message cancels a request that waits to run alone, which thus never begins."""
        if message.content.get("method") != CANCELLED:
            return False
        waiting = self._waiting.pop(message.content["params"]["requestId"], None)
        if waiting is not None:
            waiting.cancel()
        return waiting is not None

    async def _say(self, sequence: int, line: bytes) -> None:
        await self.send(Frame(sequence, line).encode())

    def _restore(self, sequence: int) -> RequestId:
        """The client's own id of a request that is settled now."""
        if sequence in self._suspects:
            self._suspects.pop(sequence).set()
        return self._ids.pop(sequence, sequence)

    def _pointed(self, message: Message) -> Message | None:
        """A cancellation with the number of the latest request in flight under its id; None if there is no such one."""
        content = message.content
        if content.get("method") != CANCELLED:
            return message
        parameters = content.get("params") or {}
        meant = parameters.get("requestId")
        for sequence, request_id in reversed(self._ids.items()):
            if type(request_id) is type(meant) and request_id == meant:
                return Message({**content, "params": {**parameters, "requestId": sequence}})
        return None
