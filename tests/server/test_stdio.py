from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client as sdk_stdio_client

from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.server.clients import (
    COMMAND,
    HANDSHAKE_REVISIONS,
    INITIALIZED,
    PATIENCE,
    ROOT,
    call,
    initialize,
    request,
    stdio_client,
)

pytestmark = pytest.mark.long

SERVER = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "stdio"], cwd=ROOT)


async def test_the_official_client_is_served() -> None:
    async with sdk_stdio_client(SERVER) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        assert (await session.list_tools()).tools[0].name == "echo"
        assert (await session.call_tool("echo", {"a": 1})).structured_content == {"echo": {"a": 1}}
        assert (await session.call_tool("refuse", {})).is_error


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_official_client_is_served_in_either_era(mode: str) -> None:
    async with Client(SERVER, mode=mode) as client:
        assert (await client.call_tool("echo", {"a": 1})).structured_content == {"echo": {"a": 1}}


def test_calls_in_flight_are_answered_after_the_end_of_stdin() -> None:
    with stdio_client() as client:
        client.send(initialize(HANDSHAKE_REVISIONS[0]), INITIALIZED)
        client.send(*(call(number, "slow", seconds=0.5) for number in range(3)))
        client.send(json.dumps(call(3, "echo")).encode())  # no newline behind the last word
        code, answers = client.finish()
        assert code == 0
        assert {answer["id"] for answer in answers if "result" in answer} == {"hello", 0, 1, 2, 3}


def test_stdin_from_a_file_is_served_to_its_end(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    lines = [initialize(), INITIALIZED, *(call(number, "echo") for number in range(4))]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "answers.jsonl"
    with script.open("rb") as stdin, output.open("wb") as stdout:
        subprocess.run((*COMMAND, "stdio"), stdin=stdin, stdout=stdout, cwd=ROOT, check=True, timeout=PATIENCE)
    assert len(output.read_text().splitlines()) == 5


def test_prints_go_to_stderr_and_stdout_is_pure() -> None:
    with stdio_client(stderr=subprocess.PIPE) as client:
        client.greet()
        assert client.ask(call(1, "print"))["result"]["structuredContent"] == {"printed": True}
        code, rest = client.finish()
        assert (code, rest) == (0, [])
        assert client.process.stderr is not None
        assert b"stray print" in client.process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_session_after_its_answers(number: signal.Signals) -> None:
    with stdio_client() as client:
        client.greet()
        client.send(call(1, "slow", seconds=0.5))
        assert client.ask(request(2, "ping"))["id"] == 2
        client.process.send_signal(number)
        assert client.receive()["result"]["structuredContent"] == {"slept": True}
        assert client.process.wait(PATIENCE) == 0
        assert client.stdout.read() == b""


def test_a_call_that_outlasts_a_signal_is_answered_as_closed() -> None:
    with stdio_client() as client:
        client.greet()
        client.send(call(1, "slow", seconds=60))
        assert client.ask(request(2, "ping"))["id"] == 2
        client.process.terminate()
        assert client.receive()["error"]["message"] == "Connection closed"
        assert client.process.wait(PATIENCE) == 0


def test_a_closed_stdout_ends_the_session() -> None:
    with stdio_client() as client:
        client.greet()
        client.stdout.close()
        client.send(request(1, "ping"))
        assert client.process.wait(PATIENCE) == 0


def test_garbage_is_answered_line_by_line() -> None:
    with stdio_client() as client:
        client.greet()
        for line in (b"garbage", b"\xff\xfe", b"[]", b"{}", b"[" * 100_000, b"\x00", b'"\\ud800"'):
            answer = client.ask(line + b"\n")
            assert answer["id"] is None
            assert answer["error"]["code"] in (-32700, -32600)
        client.send(b"\n  \r\n\n")
        deep = b'{"jsonrpc":"2.0","id":77,"method":"ping","params":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}\n"
        assert client.ask(deep)["id"] == 77
        assert client.ask(request(5, "ping")) == {"jsonrpc": "2.0", "id": 5, "result": {}}


def test_a_line_too_long_is_answered_and_skipped() -> None:
    with stdio_client() as client:
        client.greet()
        client.send(json.dumps(call("long", "echo", text="x" * MAX_MESSAGE_BYTES)).encode() + b"\n")
        answer = client.receive()
        assert (answer["id"], answer["error"]["code"]) == ("long", -32600)
        assert client.ask(request(5, "ping"))["id"] == 5


def test_a_large_message_goes_both_ways_whole() -> None:
    text = "äx" * 300_000
    with stdio_client() as client:
        client.greet()
        assert client.ask(call(1, "echo", text=text))["result"]["structuredContent"]["echo"]["text"] == text


def test_one_socket_for_both_directions_is_served() -> None:
    """As inetd and socat start their servers."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen((*COMMAND, "stdio"), stdin=theirs.fileno(), stdout=theirs.fileno(), cwd=ROOT)
        theirs.close()
        ours.settimeout(PATIENCE)
        with ours.makefile("rwb") as file:
            file.write(json.dumps(initialize()).encode() + b"\n")
            file.flush()
            assert json.loads(file.readline())["id"] == "hello"
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(PATIENCE) == 0


def test_the_parent_keeps_its_descriptors_as_they_were() -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-c", "import os; os.write(1, b'still blocking' if os.get_blocking(1) else b'changed')"]
    with stdio_client() as client:
        client.greet()
        assert client.finish()[0] == 0
    subprocess.run((*COMMAND, "stdio"), stdin=subprocess.DEVNULL, stdout=writer, cwd=ROOT, check=True)
    subprocess.run(command, stdout=writer, check=True)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"still blocking"
