"""The session and the server in memory: what goes in as a line, what comes out as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from mempalace_mcp.runtime.activity import Outcome, Transport
from mempalace_mcp.server.calls import MAX_ANSWER_BYTES
from mempalace_mcp.server.flow import BACKLOG_BYTES, MAX_AT_WORK
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.session import Session
from tests.server.clients import (
    HANDSHAKE_REVISIONS,
    INITIALIZED,
    MODERN_REVISION,
    call,
    initialize,
    modern,
    request,
)
from tests.server.echo_services import EchoServices, echo_services
from tests.server.stream import Wire, served

CANCELLED = "notifications/cancelled"


@asynccontextmanager
async def connected() -> AsyncIterator[Wire[EchoServices]]:
    with echo_services() as services:
        async with served(services) as wire:
            yield wire


def error_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The error of a refused tool call, after checking that both places say the same."""
    result = answer["result"]
    assert result["isError"] is True
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    error: dict[str, Any] = result["structuredContent"]["error"]
    assert set(error) >= {"code", "message", "argument", "hint", "retryable"}
    return error


@pytest.mark.parametrize("revision", HANDSHAKE_REVISIONS)
async def test_every_revision_with_a_handshake_is_spoken(revision: str) -> None:
    async with connected() as wire:
        answer = await wire.greet(revision)
        assert answer["result"]["protocolVersion"] == revision
        assert answer["result"]["instructions"] == "Tools for tests."
        assert (await wire.ask(call(1, "echo", a=1)))["result"]["content"][0]["text"] == '{"echo":{"a":1}}'


async def test_the_revision_without_a_handshake_is_spoken() -> None:
    async with connected() as wire:
        discovered = await wire.ask(modern(request(1, "server/discover")))
        assert MODERN_REVISION in discovered["result"]["supportedVersions"]
        result = (await wire.ask(modern(call(2, "echo", a=1))))["result"]
        assert result["structuredContent"] == {"echo": {"a": 1}}
        assert result["resultType"] == "complete"
        surrogate = await wire.ask(modern(call(3, "echo", a="\ud800")))
        assert error_of(surrogate)["argument"] == "a"
        assert surrogate["result"]["resultType"] == "complete"


async def test_tools_are_listed_in_their_order_on_one_page() -> None:
    async with connected() as wire:
        await wire.greet()
        tools = (await wire.ask(request(1, "tools/list")))["result"]["tools"]
        assert [tool["name"] for tool in tools] == [tool["name"] for tool in wire.services.tools.definitions()]
        assert (await wire.ask(request(2, "tools/list", cursor="x")))["error"]["code"] == -32602


async def test_structured_content_and_text_are_the_same_json() -> None:
    async with connected() as wire:
        await wire.greet()
        result = (await wire.ask(call(1, "echo", text="äöü 🌍 \u2028")))["result"]
        assert result["isError"] is False
        assert (
            json.loads(result["content"][0]["text"])
            == result["structuredContent"]
            == {"echo": {"text": "äöü 🌍 \u2028"}}
        )


@pytest.mark.parametrize("revision", HANDSHAKE_REVISIONS)
@pytest.mark.parametrize("message", [call("1", "echo", text="ä\n"), call(-1, "refuse"), call(2, "nothing")])
async def test_a_call_past_the_sdk_is_answered_as_one_through_it(revision: str, message: dict[str, Any]) -> None:
    through = {**message, "params": {**message["params"], "unheard": 1}}
    async with connected() as wire:
        await wire.greet(revision)
        assert await wire.ask(message) == await wire.ask(through)


@pytest.mark.parametrize(
    ("message", "code", "argument"),
    [
        (call(1, "refuse"), "invalid_argument", "limit"),
        (call(1, "nothing"), "not_found", "name"),
        (call(1, "large", size=MAX_ANSWER_BYTES // 2), "invalid_argument", None),
        (call(1, "echo", text="\ud800"), "invalid_argument", "text"),
        (request(1, "tools/call", name="echo", arguments=[]), "invalid_argument", "arguments"),
        (request(1, "tools/call"), "invalid_argument", "name"),
    ],
)
async def test_every_refused_call_has_one_shape(message: dict[str, Any], code: str, argument: str | None) -> None:
    async with connected() as wire:
        await wire.greet()
        error = error_of(await wire.ask(message))
        assert (error["code"], error["argument"]) == (code, argument)
        assert error["hint"]
        assert wire.services.activity.statistics().calls[Outcome.REFUSED] == 1


async def test_an_unexpected_error_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as wire:
        await wire.greet()
        answer = await wire.ask(call(1, "fail"))
        error = error_of(answer)
        assert error["code"] == "internal"
        assert "secret" not in json.dumps(answer)
        assert "Traceback" not in json.dumps(answer)
        assert "secret detail" in caplog.text
        assert wire.services.activity.statistics().calls[Outcome.ERROR] == 1


async def test_an_answer_just_below_the_limit_is_given() -> None:
    async with connected() as wire:
        await wire.greet()
        size = MAX_ANSWER_BYTES // 2 - 100
        assert len((await wire.ask(call(1, "large", size=size)))["result"]["structuredContent"]["text"]) == size


async def test_ping_is_answered_while_slow_calls_run() -> None:
    async with connected() as wire:
        await wire.greet()
        for number in range(3):
            await wire.send(call(number, "slow", seconds=60))
        assert (await wire.ask(request("ping", "ping")))["id"] == "ping"
        assert wire.services.activity.statistics().running == 3


async def test_a_cancelled_call_stops_and_is_not_answered() -> None:
    async with connected() as wire:
        await wire.greet()
        await wire.send(call(7, "slow", seconds=60))
        while not wire.services.tool_context.begun:
            await anyio.lowlevel.checkpoint()
        await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": 7}})
        assert (await wire.ask(request(8, "ping")))["id"] == 8
        await wire.session.drain(30)
        statistics = wire.services.activity.statistics()
        assert (wire.session.in_flight, statistics.running, statistics.calls[Outcome.CANCELLED]) == (0, 0, 1)
        with anyio.fail_after(30):
            while not wire.services.tool_context.ended:
                await anyio.lowlevel.checkpoint()


async def test_requests_wait_while_too_many_are_in_flight_and_cancellations_overtake_them() -> None:
    async with connected() as wire:
        await wire.greet()
        for number in range(MAX_AT_WORK):
            await wire.send(call(number, "slow", seconds=60))
        waiting = [request("next", "ping"), call("given up", "echo"), b"garbage", request("last", "ping")]
        for message in (*waiting, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}):
            await wire.send(message)
        await wire.send({"jsonrpc": "2.0", "id": 1, "result": {}})
        await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": "given up"}})
        await anyio.wait_all_tasks_blocked()
        assert (wire.session.in_flight, wire.unread) == (MAX_AT_WORK + 3, 0)
        await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": 0}})
        assert [(await wire.receive())["id"] for _ in range(3)] == ["next", None, "last"]
        assert wire.services.activity.statistics().calls[Outcome.OK] == 0


async def test_of_two_requests_with_one_id_the_later_one_is_cancelled_though_it_waits() -> None:
    async with connected() as wire:
        await wire.greet()
        for number in range(MAX_AT_WORK):
            await wire.send(call(number, "slow", seconds=60))
        await wire.send(request(7, "ping"))
        await wire.send(request("7", "ping"))
        await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": 7}})
        await anyio.wait_all_tasks_blocked()
        assert wire.session.in_flight == MAX_AT_WORK + 1
        await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": 7}})
        assert (await wire.receive())["id"] == "7"


async def test_so_much_may_wait_and_no_more_is_read() -> None:
    async with connected() as wire, anyio.create_task_group() as tasks:
        await wire.greet()
        for number in range(MAX_AT_WORK):
            await wire.send(call(number, "slow", seconds=60))
        long, taken = "x" * (BACKLOG_BYTES // 4), []

        async def send() -> None:
            for number in range(8):
                await wire.send(call(f"long {number}", "echo", text=long))
                taken.append(number)

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert taken == [0, 1, 2, 3]
        for number in range(4):
            await wire.send({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": f"long {number}"}})
        await anyio.wait_all_tasks_blocked()
        assert taken == list(range(8))


async def test_what_waits_when_the_session_ends_is_answered_as_what_is_at_work() -> None:
    async with connected() as wire:
        await wire.greet()
        for number in range(MAX_AT_WORK):
            await wire.send(call(number, "slow", seconds=60))
        for number in range(MAX_AT_WORK, 2 * MAX_AT_WORK):
            await wire.send(call(number, "echo"))
        wire.session.close()
        answers = [await wire.receive() for _ in range(2 * MAX_AT_WORK)]
        assert {answer["id"] for answer in answers} == set(range(2 * MAX_AT_WORK))
        assert {answer["error"]["message"] for answer in answers} == {"Connection closed"}
        await wire.session.finished.wait()
        assert wire.session.in_flight == 0


async def test_lines_at_fault_are_answered_and_the_session_goes_on() -> None:
    async with connected() as wire:
        await wire.greet()
        assert (await wire.ask(b"garbage"))["error"]["code"] == -32700
        assert (await wire.ask(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]'))[0]["id"] == 1
        assert (await wire.ask(request(5, "no/such/method")))["error"]["code"] == -32601
        assert (await wire.ask(request(6, "ping")))["result"] == {}


async def test_a_client_that_does_not_read_cannot_keep_a_session_alive() -> None:
    with echo_services() as services:
        activity = services.activity.open(Transport.SOCKET)
        stuck = anyio.Event()

        async def write(message: bytes) -> None:
            stuck.set()
            await anyio.sleep_forever()

        session = Session(MethodServer(services), activity, write)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.serve)
                await session.receive(json.dumps(initialize()).encode())
                await stuck.wait()
                session.abort()
            assert session.finished.is_set()


async def test_the_end_of_a_session_does_not_tear_an_answer() -> None:
    """The session is closed, which cancels its requests, while an answer is only half written."""
    with echo_services() as services:
        written: list[bytes] = []
        half, go_on = anyio.Event(), anyio.Event()

        async def write(message: bytes) -> None:
            if b'"id":7' in message:
                half.set()
                await go_on.wait()
            written.append(message)

        session = Session(MethodServer(services), services.activity.open(Transport.SOCKET), write)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.serve)
                for message in (initialize(), INITIALIZED, call(7, "echo")):
                    await session.receive(json.dumps(message).encode())
                await half.wait()
                session.close()
                await anyio.wait_all_tasks_blocked()
                go_on.set()
        assert [json.loads(message)["id"] for message in written] == ["hello", 7]
        assert session.in_flight == 0


async def test_the_history_knows_tools_and_sizes_but_no_names_of_the_client() -> None:
    async with connected() as wire:
        await wire.greet()
        line = json.dumps(call(1, "echo", secret="value")).encode()
        await wire.ask(line)
        await wire.ask(call(2, "a name that only the client knows"))
        known, unknown = wire.activity.history
        assert (known.tool, known.outcome, known.bytes_in) == ("echo", Outcome.OK, len(line))
        assert known.bytes_out > 0
        assert (unknown.tool, unknown.outcome) == ("unknown", Outcome.REFUSED)
