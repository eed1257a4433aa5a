"""Sessions with bridges in memory: what becomes of requests that run alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from mempalace_mcp.daemon.daemon_session import DaemonSession
from mempalace_mcp.daemon.ipc import RUN_ALONE, RUNNING_ALONE, Frame
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.server.methods import MethodServer
from tests.daemon.heap_snapshot import HeapSnapshot, growth
from tests.server.clients import INITIALIZED, call, initialize, request
from tests.server.echo_services import EchoServices, echo_services


class Bridge:
    """The other end of a session."""

    def __init__(self, services: EchoServices) -> None:
        self.services = services
        self.frames: list[Frame] = []
        self._sink, self._source = anyio.create_memory_object_stream[bytes](1000)
        self._activity = services.activity.open(Transport.SOCKET)
        self._sequence = 0

    async def serve(self, session: DaemonSession) -> None:
        self._session = session
        await session.serve()

    async def write(self, data: bytes) -> None:
        await self._sink.send(data)

    async def send(self, message: object, mark: str = "") -> int:
        self._sequence += 1
        await self._session.receive_frame(Frame(self._sequence, json.dumps(message).encode(), mark))
        return self._sequence

    async def receive(self) -> Frame:
        with anyio.fail_after(30):
            return Frame.decode((await self._source.receive()).removesuffix(b"\n"))

    async def until_settled(self, sequence: int) -> list[Frame]:
        """What comes until the message of that number is settled."""
        frames = [await self.receive()]
        while frames[-1].sequence != sequence or frames[-1].mark:
            frames.append(await self.receive())
        return frames

    def close(self) -> None:
        self._session.abort()
        self._sink.close()
        self._source.close()
        self._activity.close()


@asynccontextmanager
async def connected() -> AsyncIterator[Bridge]:
    with echo_services() as services:
        bridge = Bridge(services)
        async with anyio.create_task_group() as tasks:
            session = DaemonSession(
                MethodServer(services),
                bridge._activity,
                bridge.write,
                bridge="b",
                quarantine=anyio.Lock(),
                tasks=tasks,
            )
            tasks.start_soon(bridge.serve, session)
            await anyio.wait_all_tasks_blocked()
            try:
                await bridge.until_settled(await bridge.send(initialize()))
                await bridge.until_settled(await bridge.send(INITIALIZED))
                yield bridge
            finally:
                bridge.close()


def cancelled(number: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


async def test_suspected_requests_run_one_at_a_time_and_each_is_announced() -> None:
    async with connected() as bridge:
        first, second = [await bridge.send(call(number, "slow", seconds=0.05), RUN_ALONE) for number in (7, 8)]
        frames = await bridge.until_settled(second)
        assert [(frame.sequence, frame.mark) for frame in frames] == [
            (first, RUNNING_ALONE),
            (first, ""),
            (second, RUNNING_ALONE),
            (second, ""),
        ]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_suspected_request_that_is_cancelled_while_it_waits_never_runs_and_is_not_blamed(at_once: bool) -> None:
    async with connected() as bridge:
        first = await bridge.send(call(7, "slow", seconds=60), RUN_ALONE)
        assert (await bridge.receive()).mark == RUNNING_ALONE
        second = await bridge.send(call(8, "slow", seconds=60), RUN_ALONE)
        if not at_once:
            await anyio.wait_all_tasks_blocked()
        cancellation = await bridge.send(cancelled(8))
        settled = [await bridge.receive(), await bridge.receive()]
        assert {(frame.sequence, frame.mark, frame.line) for frame in settled} == {
            (second, "", b""),
            (cancellation, "", b""),
        }
        await bridge.send(cancelled(7))
        await bridge.until_settled(first)
        third = await bridge.send(call(9, "echo"), RUN_ALONE)
        assert [frame.mark for frame in await bridge.until_settled(third) if frame.sequence == third] == [
            RUNNING_ALONE,
            "",
        ]
        assert bridge.services.tool_context.begun == 1


async def test_a_suspected_request_that_is_cancelled_while_it_runs_lets_the_next_one_run() -> None:
    async with connected() as bridge:
        first = await bridge.send(call(7, "slow", seconds=60), RUN_ALONE)
        assert (await bridge.receive()).mark == RUNNING_ALONE
        second = await bridge.send(call(8, "echo"), RUN_ALONE)
        await bridge.send(cancelled(7))
        frames = await bridge.until_settled(second)
        assert (first, "", b"") in [(frame.sequence, frame.mark, frame.line) for frame in frames]
        assert json.loads(frames[-1].line)["id"] == 8


async def test_nothing_stays_of_what_is_settled() -> None:
    async with connected() as bridge:

        async def converse() -> HeapSnapshot:
            """Messages of every kind, refused and cancelled ones too; what is held when all are settled."""
            for number in range(10):
                for message in (call(number, "echo"), call(number, "refuse"), request(number, "ping"), {"id": number}):
                    await bridge.until_settled(await bridge.send(message))
                await bridge.until_settled(await bridge.send(call(number, "echo"), RUN_ALONE))
                slow = await bridge.send(call(number, "slow", seconds=60), RUN_ALONE if number % 2 else "")
                await bridge.send(cancelled(number))
                await bridge.until_settled(slow)
            await anyio.wait_all_tasks_blocked()
            return HeapSnapshot({"session": bridge._session})

        before = await converse()
        assert growth(before, await converse(), 5) == {}
