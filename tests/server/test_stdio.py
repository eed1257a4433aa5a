from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import StdioServerParameters

from tests.server.clients import (
    COMMAND,
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


def test_a_call_that_outlasts_a_signal_is_answered_as_closed() -> None:
    with stdio_client() as client:
        client.greet()
        client.send(call(1, "slow", seconds=60))
        assert client.ask(request(2, "ping"))["id"] == 2
        client.process.terminate()
        assert client.receive()["error"]["message"] == "Connection closed"
        assert client.process.wait(PATIENCE) == 0


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
