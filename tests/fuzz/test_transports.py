"""Every request over every transport is answered, whatever was sent before, and no other client suffers."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.daemon.control import client_hello
from mempalace_mcp.daemon.ipc import SESSION, DaemonAddress, Frame
from tests.daemon.support import bridge
from tests.fuzz.messages import certain_id, some_line
from tests.fuzz.support import CHARACTERS, SEEDS, compact, damage, damaged, examples
from tests.health import troubles
from tests.server.clients import INITIALIZED, PATIENCE, RawHttp, StdioClient, initialize, request
from tests.soak.serving import serve, server

INTERNAL_ERROR = -32603
LENGTHS = st.integers(1, 12)


@dataclass(frozen=True)
class Target:
    """The server, where it listens, and a greeting that it accepts."""

    palace: Path
    port: int
    address: DaemonAddress
    hello: bytes

    def health(self) -> dict[str, Any]:
        with RawHttp(self.port) as http:
            document: dict[str, Any] = http.ask("GET", "/health").json
        return document


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for all; in the end it is well, and its log has no trace of a mistake."""
    directory = tmp_path_factory.mktemp("doors")
    palace, log = directory / "palace", directory / "log"
    with server(log, *serve(palace)) as line:
        port = int(json.loads(line)["address"].rpartition(":")[2])
        address = DaemonAddress.read(str(palace / "daemon.json"))
        assert address is not None
        hello = client_hello(SESSION, str(palace))
        hello.token = address.token
        target = Target(palace, port, address, hello.encode())
        yield target
        health = target.health()
    assert health["diagnostics"]["calls"]["error"] == 0
    assert not troubles(health)
    assert "Traceback" not in log.read_text(encoding="utf-8")


class Wire:
    """A connection to the daemon's socket, in raw bytes."""

    def __init__(self, target: Target) -> None:
        self._socket = target.address.connect()
        self._socket.settimeout(PATIENCE)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes, *, last: bool = False) -> None:
        self._socket.sendall(data)
        if last:
            self._socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        """The next line; empty at the end."""
        return self._file.readline()


def lines_of(dice: Random, numbers: Iterable[int]) -> list[bytes]:
    """Some lines, which begin with a handshake or not, and end with a plain request."""
    lines = [some_line(dice, number) for number in numbers]
    shaken = [compact(initialize()), compact(INITIALIZED)] if dice.random() < 0.5 else []
    return [*shaken, *lines, compact(request("last", "ping"))]


def cancelled_ids(lines: Iterable[bytes]) -> list[Any]:
    """The ids of requests that need not be answered."""
    found = []
    for line in lines:
        if b"cancelled" in line:
            try:
                found.append(json.loads(line)["params"]["requestId"])
            except (ValueError, LookupError, TypeError, RecursionError):
                continue
    return found


def verify_answer(answer: Any) -> None:
    """No answer blames the server."""
    for each in answer if isinstance(answer, list) else [answer]:
        assert each["jsonrpc"] == "2.0"
        assert each.get("error", {}).get("code") != INTERNAL_ERROR, each
        assert "made a mistake" not in str(each), each


@examples(60)
@given(SEEDS, LENGTHS)
def test_every_frame_is_settled_once(target: Target, tally: Counter[str], seed: int, count: int) -> None:
    dice = Random(seed)
    lines = dict(enumerate(lines_of(dice, range(10, 10 + count)), 1))
    unwanted = cancelled_ids(lines.values())
    settled: dict[int, bytes] = {}
    with Wire(target) as wire:
        wire.send(target.hello)
        assert json.loads(wire.line())["protocol"] == 1
        wire.send(b"".join(Frame(number, line, dice.choice(("", "", "?"))).encode() for number, line in lines.items()))
        while settled.keys() != lines.keys():
            line = wire.line()
            assert line, f"the daemon hung up; unsettled: {lines.keys() - settled.keys()}"
            frame = Frame.decode(line.removesuffix(b"\n"))
            if frame.sequence and not frame.mark:
                assert frame.sequence not in settled, "settled twice"
                settled[frame.sequence] = frame.line
    tally["frames"] += len(lines)
    for number, line in lines.items():
        expected = certain_id(line)
        if settled[number]:
            answer = json.loads(settled[number])
            verify_answer(answer)
            assert isinstance(answer, list) or expected in (None, answer["id"])
        else:
            assert expected is None or expected in unwanted, line


@examples(60)
@given(st.data(), st.booleans())
def test_who_does_not_greet_is_refused(target: Target, tally: Counter[str], data: st.DataObject, stays: bool) -> None:
    greeting = data.draw(damaged(target.hello) | st.binary(max_size=40).map(lambda start: start + b"\n"))
    tally["greetings"] += 1
    with Wire(target) as wire:
        wire.send(greeting, last=stays)
        answer = wire.line() if stays else b""
    assert not answer or "refused" in json.loads(answer) or json.loads(answer)["protocol"] == 1


@examples(40)
@given(SEEDS)
def test_frames_in_disorder_end_their_session_alone(target: Target, tally: Counter[str], seed: int) -> None:
    dice = Random(seed)
    frames = b"".join(Frame(number, some_line(dice, number)).encode() for number in range(1, 4))
    tally["damaged frames"] += 1
    with Wire(target) as wire:
        wire.send(target.hello)
        assert json.loads(wire.line())["protocol"] == 1
        wire.send(damage(dice, frames), last=True)
        while wire.line():
            pass


METHODS = ("POST", "POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW")
PATHS = ("/mcp", "/mcp", "/mcp", "/sse", "/messages/", "/messages/?session_id=0", "/health", "/metrics", "/", "/%00")
HEADERS = (
    "Content-Type", "Accept", "MCP-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Origin", "Referer",
    "Authorization", "Cookie", "Last-Event-ID", "Accept-Encoding", "Content-Encoding", "X-Forwarded-For", "Upgrade",
)  # fmt: skip
VALUES = (
    "", "application/json", "text/event-stream", "application/json;charset=utf-16", "*/*", "null", "2025-06-18",
    "2026-07-28", "1999-01-01", "tools/call", "http://127.0.0.1", "http://example.com", "Bearer x", "gzip", "websocket",
)  # fmt: skip
FIELD = "".join(character for character in CHARACTERS if character.isprintable() and ord(character) < 256)


def some_headers(dice: Random) -> dict[str, str]:
    """Fields that do not tell where the message ends."""
    chosen = dice.sample(HEADERS, dice.randint(0, 3))
    return {name: dice.choice((*VALUES, "".join(dice.choices(FIELD, k=dice.randint(0, 300))))) for name in chosen}


@examples(80)
@given(SEEDS)
def test_every_request_over_http_is_answered(target: Target, tally: Counter[str], seed: int) -> None:
    dice = Random(seed)
    method, path, headers = dice.choice(METHODS), dice.choice(PATHS), some_headers(dice)
    body = some_line(dice, 5)
    tally["HTTP requests"] += 1
    with RawHttp(target.port) as http:
        http.begin(method, path, body, headers)
        head = http.head()
        assert head.status < 500, (head, method, path, headers, body)
        if (method, path, head.status) == ("POST", "/mcp", 200):
            answer = json.loads(http.file.read(int(head.headers["content-length"])))
            verify_answer(answer)
            assert certain_id(body) in (None, answer["id"])


@examples(40)
@given(SEEDS)
def test_what_is_hardly_http_is_not_the_servers_mistake(target: Target, tally: Counter[str], seed: int) -> None:
    dice = Random(seed)
    body = some_line(dice, 5)
    head = f"{dice.choice(METHODS)} {dice.choice(PATHS)} HTTP/1.1\r\nHost: localhost\r\n"
    lengths = (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", "Content-Length: 99999999999", "Expect: x")
    types = "Content-Type: application/json\r\nAccept: application/json, text/event-stream"
    whole = f"{head}{dice.choice(lengths)}\r\n{types}\r\n\r\n"
    tally["damaged HTTP requests"] += 1
    with RawHttp(target.port) as http:
        http.socket.sendall(damage(dice, whole.encode()) + body)
        http.socket.shutdown(socket.SHUT_WR)
        status = http.file.readline().split()
        assert not status or not status[1].startswith(b"500"), (status, whole, body)


@pytest.fixture(scope="module")
def session(target: Target) -> Iterator[StdioClient]:
    """A session over stdio that outlives whatever is written to it."""
    with bridge(target.palace, "--tools", "full") as client:
        client.greet()
        yield client
        client.send(request("goodbye", "ping"))
        assert client.finish()[0] == 0


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Ids that nobody has used."""
    return itertools.count(1000)


@examples(40)
@given(SEEDS, LENGTHS)
def test_every_line_of_a_session_is_answered(
    session: StdioClient, numbers: Iterator[int], tally: Counter[str], seed: int, count: int
) -> None:
    dice = Random(seed)
    lines = [line for line in (some_line(dice, next(numbers)) for _ in range(count)) if line.strip()]
    last = f"last {next(numbers)}"
    lines.append(compact(request(last, "ping")))
    unwanted = cancelled_ids(lines)
    expected = Counter(found for line in lines if (found := certain_id(line)) is not None and found not in unwanted)
    session.send(*(line + b"\n" for line in lines))
    tally["lines of a session"] += len(lines)
    while expected:
        answer: Any = session.receive()
        if isinstance(answer, dict) and "method" in answer:
            continue
        verify_answer(answer)
        if isinstance(answer, dict) and answer["id"] in expected:
            expected -= Counter([answer["id"]])
