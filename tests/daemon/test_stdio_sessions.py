"""Sessions over stdio, behind a bridge and in a process of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.daemon.support import bridge
from tests.server.clients import INITIALIZED, PATIENCE, call, initialize, request

OPTIONS = pytest.mark.parametrize("options", [(), ("--solo",)], ids=["bridge", "solo"])
NO_MESSAGES = (
    b"garbage",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b"\x00",
    b'"\\ud800"',
)


@OPTIONS
def test_lines_that_are_no_messages_are_answered(palace: Path, options: tuple[str, ...]) -> None:
    with bridge(palace, *options) as client:
        client.greet()
        for line in NO_MESSAGES:
            answer = client.ask(line + b"\n")
            assert (answer["id"], answer["error"]["code"] in (-32700, -32600)) == (None, True)
        assert client.ask(b'{"jsonrpc":"2.0","id":1}\n')["error"]["code"] == -32600
        client.send(b"\n  \r\n\n")
        deep = b'{"jsonrpc":"2.0","id":76,"method":"ping","params":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}\n"
        assert client.ask(deep)["id"] == 76
        long = b'{"jsonrpc":"2.0","id":77,"method":"ping","params":{"a":"' + b"x" * MAX_MESSAGE_BYTES + b'"}}\n'
        answer = client.ask(long)
        assert (answer["id"], answer["error"]["code"]) == (77, -32600)
        assert client.ask(request(5, "ping")) == {"jsonrpc": "2.0", "id": 5, "result": {}}


@OPTIONS
def test_calls_in_flight_are_answered_after_the_end_of_stdin(
    palace: Path, deliberate: Path, options: tuple[str, ...]
) -> None:
    with bridge(palace, *options, package=deliberate) as client:
        client.send(initialize(), INITIALIZED)
        client.send(*(call(number, "get_taxonomy", wing="sleep 0.5") for number in range(3)))
        client.send(json.dumps(call(3, "kg_stats")).encode())
        code, answers = client.finish()
        assert code == 0
        assert {answer["id"] for answer in answers if "result" in answer} == {"hello", 0, 1, 2, 3}


@OPTIONS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_a_session_after_its_answers(
    palace: Path, deliberate: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    with bridge(palace, *options, package=deliberate) as client:
        client.greet()
        client.send(call(1, "get_taxonomy", wing="sleep 0.5"))
        assert client.ask(request(2, "ping"))["id"] == 2
        client.process.send_signal(number)
        assert client.receive()["id"] == 1
        assert client.process.wait(PATIENCE) == 0
        assert client.stdout.read() == b""


@OPTIONS
def test_a_closed_stdout_ends_the_session(palace: Path, options: tuple[str, ...]) -> None:
    with bridge(palace, *options) as client:
        client.greet()
        client.stdout.close()
        client.send(request(1, "ping"))
        assert client.process.wait(PATIENCE) == 0
