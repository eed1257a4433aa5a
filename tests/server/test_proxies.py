"""Behind a proxy that serves the palace under a path of its own: the stream says where messages reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urljoin

import anyio
import anyio.abc
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from mempalace_mcp.cli import tokens
from tests.palace.support import at
from tests.server.clients import HttpServer, SseClient, http_server
from tests.server.test_accounts import served

pytestmark = pytest.mark.long

PREFIX = "/deep/palace"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("proxies") / "log") as running:
        yield running


@dataclass(frozen=True)
class Guarded:
    """A server with a token, as those behind proxies need one."""

    port: int
    headers: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    palace = tmp_path_factory.mktemp("guarded") / "palace"
    secret = tokens.make_token(at(palace), "laptop", "write", [], False)[0]
    with served(palace) as announced:
        yield Guarded(announced["port"], {"Authorization": f"Bearer {secret}"})


@asynccontextmanager
async def proxy(port: int, fields: dict[str, str]) -> AsyncIterator[str]:
    """A proxy that serves the palace at that port below a prefix, and says so with these fields; its address."""

    async def pump(source: anyio.abc.ByteStream, sink: anyio.abc.ByteStream, tasks: anyio.abc.TaskGroup) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                await sink.send(data)
        tasks.cancel_scope.cancel()

    async def pass_on(client: anyio.abc.ByteStream) -> None:
        """One request on each connection."""
        async with client, await anyio.connect_tcp("127.0.0.1", port) as server, anyio.create_task_group() as tasks:
            first = await client.receive()
            line, rest = first.split(b"\r\n", 1)
            told = "".join(f"{name}: {value}\r\n" for name, value in {**fields, "Connection": "close"}.items())
            await server.send(line.replace(PREFIX.encode(), b"", 1) + b"\r\n" + told.encode() + rest)
            tasks.start_soon(pump, client, server, tasks)
            tasks.start_soon(pump, server, client, tasks)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, pass_on)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}{PREFIX}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("stream", ["/sse", "/sse/"])
@pytest.mark.parametrize(
    "fields",
    [
        {"X-Forwarded-Prefix": PREFIX},
        {"X-Forwarded-Prefix": f"{PREFIX}/"},
        {"X-Forwarded-Prefix": "/deep, /palace"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Prefix": "//evil.example"},
        {"Via": "1.1 proxy"},
    ],
)
async def test_the_official_client_finds_the_way_back(guarded: Guarded, fields: dict[str, str], stream: str) -> None:
    async with (
        proxy(guarded.port, fields) as address,
        sse_client(f"{address}{stream}", guarded.headers) as streams,
        ClientSession(*streams) as session,
    ):
        await session.initialize()
        assert not (await session.call_tool("status", {})).is_error


async def test_a_proxy_that_leaves_no_trace_is_known_by_its_port(server: HttpServer) -> None:
    async with (
        proxy(server.port, {}) as address,
        sse_client(f"{address}/sse") as streams,
        ClientSession(*streams) as session,
    ):
        await session.initialize()
        assert not (await session.call_tool("echo", {})).is_error


@pytest.mark.parametrize("told", [PREFIX, f"{PREFIX}/", "/deep, /palace"])
def test_a_prefix_that_a_proxy_tells_leads_the_path(guarded: Guarded, told: str) -> None:
    with SseClient(guarded.port, {**guarded.headers, "X-Forwarded-Prefix": told}) as client:
        assert client.path.startswith(f"{PREFIX}/messages/?session_id=")


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "/a/../b",
        "/./a",
        "evil",
        "https://evil.example",
        "/a b",
        "/a%2eb",
        "/a?x",
        "/é",
        "/" + "x" * 600,
    ],
)
def test_a_prefix_that_is_not_plainly_a_path_counts_for_nothing(guarded: Guarded, prefix: str) -> None:
    with SseClient(guarded.port, {**guarded.headers, "X-Forwarded-Prefix": prefix}) as client:
        assert client.path.startswith("messages/?session_id=")


def test_clients_that_come_directly_get_a_path_from_the_root(server: HttpServer) -> None:
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", f"[::1]:{server.port}", "localhost"):
        with SseClient(server.port, {"Host": host}) as client:
            assert urljoin("/sse", client.path) == client.path
