"""What holds over every transport: the official client is served, revisions are spoken, a stop lets calls end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters
from mcp.client.stdio import stdio_client as sdk_stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.server.clients import (
    COMMAND,
    HANDSHAKE_REVISIONS,
    INITIALIZED,
    MODERN_REVISION,
    ROOT,
    HttpServer,
    RawHttp,
    SseClient,
    StdioClient,
    call,
    http_server,
    initialize,
    modern,
    request,
    stdio_client,
)

pytestmark = pytest.mark.long

TRANSPORTS = ("http", "sse", "stdio")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("transports") / "log") as running:
        yield running


class HttpSession:
    """Raw messages over one connection, from a client that has done its handshake with another server."""

    def __init__(self, http: RawHttp) -> None:
        self._http = http
        self._headers: dict[str, str] = {}

    def greet(self, revision: str) -> Any:
        """Do the handshake."""
        answer = self.ask(initialize(revision))
        self._headers = {"MCP-Protocol-Version": revision, "Mcp-Session-Id": "of-a-server-before-its-restart"}
        assert self._http.ask("POST", "/mcp", INITIALIZED, self._headers).status == 202
        return answer

    def ask(self, message: dict[str, Any]) -> Any:
        """The answer to a request."""
        return self._http.ask("POST", "/mcp", message, self._headers).json


@contextmanager
def connected(transport: str, server: HttpServer) -> Iterator[HttpSession | SseClient | StdioClient]:
    """A client of the server, or over stdio of one of its own, that speaks raw messages."""
    if transport == "http":
        with RawHttp(server.port) as http:
            yield HttpSession(http)
    else:
        with SseClient(server.port) if transport == "sse" else stdio_client() as client:
            yield client


def official(transport: str, server: HttpServer) -> AbstractAsyncContextManager[Any]:
    """The official client's end of the transport."""
    if transport == "http":
        return streamable_http_client(f"{server.url}/mcp")
    if transport == "sse":
        return sse_client(f"{server.url}/sse")
    return sdk_stdio_client(StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "stdio"], cwd=ROOT))


@pytest.mark.parametrize("mode", ["legacy", "auto", MODERN_REVISION])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_official_client_is_served(server: HttpServer, transport: str, mode: str) -> None:
    async with Client(official(transport, server), mode=mode) as client:
        assert (await client.list_tools()).tools[0].name == "echo"
        assert (await client.call_tool("echo", {"a": 1})).structured_content == {"echo": {"a": 1}}
        assert (await client.call_tool("refuse", {})).is_error
        assert (await client.call_tool("nothing", {})).is_error


@pytest.mark.parametrize("revision", HANDSHAKE_REVISIONS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_revision_with_a_handshake_is_spoken(server: HttpServer, transport: str, revision: str) -> None:
    with connected(transport, server) as client:
        assert client.greet(revision)["result"]["protocolVersion"] == revision
        assert client.ask(call(1, "echo"))["result"]["isError"] is False
        assert client.ask(request(2, "ping"))["result"] == {}


@pytest.mark.parametrize("transport", ["sse", "stdio"])
def test_the_revision_without_a_handshake_is_spoken(server: HttpServer, transport: str) -> None:
    """Over HTTP headers tell of it too: `test_http.py`."""
    with connected(transport, server) as client:
        found = client.ask(modern(request(1, "server/discover")))["result"]
    assert MODERN_REVISION in found["supportedVersions"]


def test_calls_in_flight_are_answered_when_the_server_stops(tmp_path: Path) -> None:
    with http_server(tmp_path / "log") as server, RawHttp(server.port) as http, SseClient(server.port) as client:
        client.greet()
        client.post(call(1, "slow", seconds=0.5))
        http.begin("POST", "/mcp", call(1, "slow", seconds=0.5))
        with RawHttp(server.port) as probe:
            while probe.ask("GET", "/health").json["diagnostics"]["running_executions"] < 2:
                pass
        assert server.stop()[0] == 0
        assert http.head().status == 200
        assert json.loads(client.event("message"))["result"]["structuredContent"] == {"slept": True}
        assert client.stream.file.read().strip() in (b"0", b"")
