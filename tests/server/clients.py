"""Clients that speak raw bytes, so that tests see exactly what is on the wire."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.server.echo_server")
PATIENCE = 30.0
"""Seconds after which a test gives up on an answer."""

HANDSHAKE_REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_REVISION = "2026-07-28"


def request(number: Any, method: str, **params: Any) -> dict[str, Any]:
    """A request as JSON."""
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params else {})}


def call(number: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool call as JSON."""
    return request(number, "tools/call", name=tool, arguments=arguments)


def modern(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as the revision without a handshake sends it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN_REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    }
    return {**message, "params": {**message.get("params", {}), "_meta": meta}}


def initialize(revision: str = "2025-11-25") -> dict[str, Any]:
    """The first request of the older revisions."""
    client = {"name": "test", "version": "1"}
    return request("hello", "initialize", protocolVersion=revision, capabilities={}, clientInfo=client)


INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class StdioClient:
    """A server process behind pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout
        self._pending = b""

    def send(self, *messages: Any) -> None:
        """Write messages, or bytes as they are."""
        for message in messages:
            self.stdin.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        self.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next line, which must be a message."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                assert selector.select(PATIENCE), "no answer"
                data = os.read(self.stdout.fileno(), 1 << 20)
                assert data, f"stdout ended with {self._pending!r}"
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, message: Any) -> dict[str, Any]:
        """Send one message and receive one."""
        self.send(message)
        return self.receive()

    def greet(self, revision: str = "2025-11-25") -> dict[str, Any]:
        """Do the handshake."""
        answer = self.ask(initialize(revision))
        self.send(INITIALIZED)
        return answer

    def finish(self) -> tuple[int, list[dict[str, Any]]]:
        """Close stdin; the exit code and all that still came, line by line."""
        self.stdin.close()
        rest = self._pending + self.stdout.read()
        return self.process.wait(PATIENCE), [json.loads(line) for line in rest.splitlines()]


@contextmanager
def stdio_client(stderr: int | None = None) -> Iterator[StdioClient]:
    """A client of a new server process, which ends with the block."""
    command = (*COMMAND, "stdio")
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, cwd=ROOT)
    try:
        yield StdioClient(process)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process if it still runs, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


@dataclass
class HttpServer:
    """A server process with HTTP transports; its log goes to a file."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; the exit code and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE), time.monotonic() - began


@contextmanager
def http_server(log: Path) -> Iterator[HttpServer]:
    """A new server process, which ends with the block."""
    with log.open("wb") as stderr:
        process = subprocess.Popen((*COMMAND, "http"), stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield HttpServer(process, int(process.stdout.readline()), log)
    finally:
        end(process)


@dataclass(frozen=True)
class Response:
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawHttp:
    """One keep-alive connection."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> RawHttp:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        self.socket.close()

    def ask(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Response:
        """Send a request and read its whole answer."""
        self.begin(method, path, body, headers)
        response = self.head()
        length = int(response.headers.get("content-length", "0"))
        return Response(response.status, response.headers, self.file.read(length))

    def begin(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {
            "Host": "127.0.0.1",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)

    def head(self) -> Response:
        """The status line and headers of an answer."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Response(status, headers, b"")


def event(http: RawHttp) -> dict[str, Any]:
    """The next message of a stream of events in an answer."""
    while not (line := http.file.readline()).startswith(b"data: "):
        assert line
    message: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return message


class SseClient:
    """A session over HTTP+SSE."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self.stream = RawHttp(port)
        self.poster = RawHttp(port)
        self.stream.begin("GET", "/sse", headers=headers)
        self.opening = self.stream.head()
        self.path = self.event("endpoint") if self.opening.status == 200 else ""

    def __enter__(self) -> SseClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stream.__exit__()
        self.poster.__exit__()

    def event(self, name: str) -> str:
        """The data of the next event, which must be of that name."""
        expected = f"event: {name}".encode()
        while not (line := self.stream.file.readline().strip()).startswith(b"event:"):
            assert line is not None
        assert line == expected
        return self.stream.file.readline().decode().removeprefix("data: ").strip()

    def post(self, message: Any) -> Response:
        """Post a message."""
        return self.poster.ask("POST", self.path, message)

    def ask(self, message: Any) -> dict[str, Any]:
        """Post a message and receive one."""
        assert self.post(message).status == 202
        answer: dict[str, Any] = json.loads(self.event("message"))
        return answer

    def greet(self, revision: str = "2024-11-05") -> dict[str, Any]:
        """Do the handshake."""
        answer = self.ask(initialize(revision))
        assert self.post(INITIALIZED).status == 202
        return answer
