"""What a process that serves ordinary sessions does without."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.sdk import PalaceServer
from tests.daemon.support import bridge, use
from tests.server.clients import INITIALIZED, StdioClient, call, initialize, request
from tests.server.echo_services import EchoServices, echo_services
from tests.server.stream import Wire, served

SDK = {"mcp", "mcp_types"}
HTTP = {"starlette", "uvicorn", "sse_starlette", "httpx2"}
LISTS = ("resources/list", "resources/templates/list", "prompts/list")
READ = request(7, "resources/read", uri="palace://w")


def imported(client: StdioClient, number: Any) -> set[str]:
    """What the process behind the session has imported."""
    return set(use(client, number, "get_taxonomy", wing="modules")["taxonomy"]["modules"])


def be_ordinary(client: StdioClient) -> None:
    """What most sessions do."""
    assert client.greet()["result"]["serverInfo"]["name"] == "mempalace-mcp"
    assert client.ask(request(1, "ping"))["result"] == {}
    assert client.ask(request(2, "tools/list"))["result"]["tools"]
    use(client, 3, "add_drawer", wing="w", room="r", content="the harbour lights are green")
    assert use(client, 4, "search", query="harbour", mode="keyword")["results"]
    addition = call(5, "kg_add", subject="a", predicate="b", object="c")
    addition["params"]["_meta"] = {"claudecode/toolUseId": "t", "progressToken": 5}
    assert not client.ask(addition)["result"]["isError"]
    for method in LISTS:
        assert "result" in client.ask(request(method, method))
    client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})


@pytest.mark.parametrize("options", [(), ("--solo",)])
def test_ordinary_sessions_need_no_sdk_and_any_session_can_have_it(
    palace: Path, deliberate: Path, options: tuple[str, ...]
) -> None:
    with bridge(palace, *options, package=deliberate, stderr=subprocess.DEVNULL) as client:
        be_ordinary(client)
        modules = imported(client, 6)
        assert "mempalace_mcp.server.session" in modules
        assert not modules & (SDK | HTTP)
        assert client.ask(READ)["result"]["contents"]
        assert client.ask(request(8, "ping"))["result"] == {}
        assert imported(client, 9) >= SDK


class SlowToLoad(MethodServer):
    """Has the SDK when it is told to."""

    def __init__(self, services: EchoServices) -> None:
        super().__init__(services)
        self.asked, self.loaded = anyio.Event(), anyio.Event()
        self.times = 0

    async def sdk_server(self) -> PalaceServer:
        self.times += 1
        self.asked.set()
        await self.loaded.wait()
        return await super().sdk_server()


async def greeted(wire: Wire[EchoServices]) -> None:
    for message in (initialize(), INITIALIZED):
        await wire.send(message)
    await wire.receive()


async def test_while_the_sdk_is_loaded_calls_are_answered_and_it_is_loaded_once() -> None:
    with echo_services() as services:
        server = SlowToLoad(services)
        async with served(services, server) as wire, anyio.create_task_group() as tasks:
            await greeted(wire)
            await wire.send(call(1, "slow", seconds=0.05))
            for number in (2, 3):
                tasks.start_soon(wire.send, {**READ, "id": number})
            await server.asked.wait()
            assert (await wire.receive())["id"] == 1
            assert wire.session.in_flight == 2
            server.loaded.set()
            assert {(await wire.receive())["id"] for _ in range(2)} == {2, 3}
            assert server.times == 1


async def test_what_was_read_while_the_sdk_is_loaded_is_not_waited_for_when_its_reader_gives_up() -> None:
    with echo_services() as services:
        server = SlowToLoad(services)
        async with served(services, server) as wire:
            await greeted(wire)
            async with anyio.create_task_group() as reading:
                reading.start_soon(wire.send, READ)
                await server.asked.wait()
                reading.cancel_scope.cancel()
            assert wire.session.in_flight == 0


async def test_a_session_may_end_while_the_sdk_is_loaded() -> None:
    with echo_services() as services:
        server = SlowToLoad(services)
        async with served(services, server) as wire, anyio.create_task_group() as tasks:
            await greeted(wire)
            refused = anyio.Event()

            async def read() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await wire.send(READ)
                refused.set()

            tasks.start_soon(read)
            await server.asked.wait()
            wire.session.close()
            server.loaded.set()
            with anyio.fail_after(30):
                await refused.wait()
                await wire.session.finished.wait()
            assert wire.session.in_flight == 0
