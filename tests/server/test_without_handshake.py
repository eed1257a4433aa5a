"""Sessions that go on without a handshake, as those of clients do whose stream was cut by a restart of the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from tests.palace.support import opened
from tests.server.clients import (
    PATIENCE,
    ROOT,
    RawHttp,
    SseClient,
    StdioClient,
    call,
    end,
    initialize,
    modern,
    request,
)
from tests.server.echo_services import echo_services
from tests.server.stream import palace_session, served

pytestmark = pytest.mark.long

LIMITED = Principal("cook", wings=("kitchen",))
URI = "palace://kitchen"
COMPLETION: dict[str, Any] = {
    "ref": {"type": "ref/prompt", "name": "recall"},
    "argument": {"name": "wing", "value": "ki"},
}
FIRST: list[dict[str, Any]] = [
    call(1, "get_taxonomy"),
    request(1, "tools/list"),
    request(1, "resources/list"),
    request(1, "resources/read", uri=URI),
    request(1, "resources/subscribe", uri=URI),
    request(1, "prompts/list"),
    request(1, "prompts/get", name="wake_up"),
    request(1, "completion/complete", **COMPLETION),
]


@pytest.mark.parametrize("first", FIRST, ids=lambda message: str(message["method"]))
@pytest.mark.parametrize("before", [[], [request(0, "ping")], [request(0, "server/discover")]])
async def test_whatever_comes_first_is_answered(
    tmp_path: Path, first: dict[str, Any], before: list[dict[str, Any]]
) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        wire.palace.add_drawer("kitchen", "soup", "Lentils.")
        for message in before:
            await wire.ask(message)
        assert "result" in await wire.ask(first)
        for message in FIRST:
            assert "result" in await wire.ask(message)


async def test_changes_are_told_in_such_a_session(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        await wire.result("resources/subscribe", uri=URI)
        await wire.send(call(2, "add_drawer", wing="kitchen", room="soup", content="Lentils."))
        told = [await wire.receive(), await wire.receive()]
        (news,) = [each for each in told if "method" in each]
        assert (news["method"], news["params"]["uri"]) == ("notifications/resources/updated", URI)


async def test_such_a_session_reaches_no_further_than_its_token(tmp_path: Path) -> None:
    async with palace_session(tmp_path, access=LIMITED, greeted=False) as wire:
        wire.palace.add_drawer("vault", "codes", "The password is zebra.")
        found = (await wire.result("tools/call", name="search", arguments={"query": "password"}))["structuredContent"]
        assert found["results"] == []
        assert not (await wire.result("resources/list"))["resources"]
        await wire.error("resources/read", uri="palace://vault")
    async with palace_session(tmp_path, access=Principal("reader", writes=False), greeted=False) as wire:
        refused = await wire.result("tools/call", name="add_drawer", arguments={})
        assert refused["structuredContent"]["error"]["code"] == "read_only"


async def test_a_handshake_may_still_follow(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        await wire.result("prompts/get", name="wake_up")
        await wire.result("tools/list")
    with opened(tmp_path, started=False) as app:
        async with served(services_of(app, ToolSelection())) as wire:
            await wire.result("tools/list")
            assert (await wire.greet("2024-11-05"))["result"]["protocolVersion"] == "2024-11-05"
            await wire.result("prompts/get", name="wake_up")


async def test_what_follows_a_handshake_that_is_being_made_waits_for_it() -> None:
    """One with more to it than is read here goes to the SDK, and its client may not wait for the answer."""
    with echo_services() as services:
        async with served(services) as wire:
            odd = initialize("2024-11-05")
            odd["params"]["_meta"] = {}
            await wire.send(odd)
            await wire.send(call(1, "echo", a=1))
            answers = {answer["id"]: answer for answer in [await wire.receive(), await wire.receive()]}
            assert answers["hello"]["result"]["protocolVersion"] == "2024-11-05"
            assert answers[1]["result"]["structuredContent"] == {"echo": {"a": 1}}


async def test_after_a_handshake_that_was_refused_the_session_goes_on() -> None:
    with echo_services() as services:
        async with served(services) as wire:
            assert "error" in await wire.ask(request(0, "initialize", protocolVersion=1))
            assert (await wire.result("tools/call", name="echo", arguments={}))["isError"] is False
            assert "error" in await wire.ask(request(1, "resources/unsubscribe"))


async def test_a_session_of_a_later_revision_needs_its_envelope() -> None:
    with echo_services() as services:
        async with served(services) as wire:
            assert "result" in await wire.ask(modern(request(1, "tools/list")))
            assert (await wire.ask(request(2, "tools/list")))["error"]["code"] == -32602
            assert "result" in await wire.ask(modern(request(3, "tools/list")))


@contextmanager
def server(palace: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server process and its port."""
    command = [sys.executable, "-m", "mempalace_mcp", "serve", "--palace", str(palace), "--port", str(port), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield process, int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
    finally:
        end(process)


def test_a_client_whose_server_was_killed_goes_on_with_the_next_one(tmp_path: Path) -> None:
    arguments = {"wing": "kitchen", "room": "soup", "content": "Lentils."}
    with server(tmp_path) as (process, port), SseClient(port) as client:
        assert client.stream.file.readline().startswith(b"id: ")
        assert client.stream.file.readline() == b"retry: 500\r\n"
        client.greet("2025-06-18")
        assert client.ask(call(1, "add_drawer", **arguments))["result"]["isError"] is False
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    with server(tmp_path, port) as _, SseClient(port) as client:
        found = client.ask(call(2, "search", query="Lentils"))["result"]["structuredContent"]
        assert [hit["wing"] for hit in found["results"]] == ["kitchen"]
        assert client.ask(request(3, "prompts/get", name="wake_up"))["result"]["messages"]


def test_a_post_under_a_session_of_the_killed_server_says_how_to_get_another(tmp_path: Path) -> None:
    with server(tmp_path) as (_, port), RawHttp(port) as http:
        answer = http.ask("POST", "/messages/?session_id=" + "0" * 32, call(7, "status"))
        assert answer.status == 404
        assert "/sse" in answer.body.decode()


@pytest.mark.parametrize("options", [["--solo"], []], ids=["solo", "bridge"])
def test_over_stdio_too(tmp_path: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "mempalace_mcp", "--palace", str(tmp_path), *options]
    environment = {**os.environ, "PALACE_IDLE_SECONDS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    try:
        client = StdioClient(process)
        assert client.ask(call(1, "status"))["result"]["isError"] is False
        assert client.ask(request(2, "prompts/get", name="wake_up"))["result"]["messages"]
        assert client.finish()[0] == 0
    finally:
        end(process)
