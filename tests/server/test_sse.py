from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.sse import SESSION_LIMIT, SseTransport
from tests.server.clients import (
    HttpServer,
    RawHttp,
    SseClient,
    call,
    http_server,
    request,
)
from tests.server.echo_services import echo_services
from tests.server.serving import served

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("sse") / "log") as running:
        yield running


def open_sessions(server: HttpServer) -> int:
    with RawHttp(server.port) as http:
        count: int = http.ask("GET", "/health").json["diagnostics"]["sessions"]["sse"]
    return count


def wait_for_sessions(server: HttpServer, wanted: int) -> None:
    while open_sessions(server) != wanted:
        pass


def test_a_message_at_fault_is_answered_on_the_stream(server: HttpServer) -> None:
    with SseClient(server.port) as client:
        client.greet()
        assert client.ask(b"garbage")["error"]["code"] == -32700
        assert client.ask(b'{"jsonrpc":"2.0","id":9,"method":"ping","params":{"a":1e400}}')["id"] == 9
        assert client.ask(call(3, "echo", text="\ud800"))["result"]["isError"] is True
        assert client.ask(request(4, "ping"))["id"] == 4


def test_posts_that_cannot_be_served_say_why(server: HttpServer) -> None:
    with SseClient(server.port) as client, RawHttp(server.port) as http:
        message = request(1, "ping")
        assert http.ask("POST", "/messages/?session_id=unknown", message).status == 404
        assert http.ask("POST", "/messages/", message).status == 404
        assert http.ask("POST", client.path, message, {"Content-Type": "text/plain"}).status == 415
        assert http.ask("GET", client.path).status == 405
        assert http.ask("POST", "/sse", message).status == 405
        too_large = http.ask("POST", client.path, b"", {"Content-Length": str(17 << 20)})
        assert too_large.status == 413


def test_calls_of_a_client_that_leaves_are_cancelled(server: HttpServer) -> None:
    with SseClient(server.port) as client:
        client.greet()
        assert client.post(call(1, "slow", seconds=60)).status == 202
    with RawHttp(server.port) as http:
        while http.ask("GET", "/health").json["diagnostics"]["running_executions"]:
            pass
        assert http.ask("GET", "/health").json["diagnostics"]["calls"]["cancelled"] >= 1


def test_streams_that_close_between_a_post_and_its_answer_leave_no_trace(tmp_path: Path) -> None:
    with http_server(tmp_path / "log") as server:
        for number in range(50):
            with SseClient(server.port) as client:
                client.poster.begin("POST", client.path, request(number, "ping"))
                client.stream.file.close()
                client.stream.socket.close()
                assert client.poster.head().status in (202, 404)
                with RawHttp(server.port) as late:
                    assert late.ask("POST", client.path, request(number, "ping")).status in (202, 404)
        wait_for_sessions(server, 0)
        assert server.stop()[0] == 0
        assert server.log.read_text() == ""


def test_sessions_beyond_the_limit_are_asked_to_come_again(tmp_path: Path) -> None:
    with http_server(tmp_path / "log") as server:
        clients = [SseClient(server.port) for _ in range(SESSION_LIMIT)]
        with SseClient(server.port) as refused:
            assert refused.opening.status == 503
            assert int(refused.opening.headers["retry-after"]) > 0
        assert clients[0].greet()["id"] == "hello"
        clients.pop().__exit__()
        wait_for_sessions(server, SESSION_LIMIT - 1)
        with SseClient(server.port) as admitted:
            assert admitted.opening.status == 200
        code, seconds = server.stop()
        assert code == 0
        assert seconds < 10  # generous: all streams end at once, none waits for its client
        for client in clients:
            client.__exit__()
        assert server.log.read_text() == ""


def test_idle_sessions_make_room_when_there_is_none() -> None:
    with echo_services() as services:
        patient, strict = (
            SseTransport(MethodServer(services), services.activity, session_limit=2, idle_seconds=seconds)
            for seconds in (0, 600)
        )
        with served(strict) as port, SseClient(port), SseClient(port), SseClient(port) as refused:
            assert refused.opening.status == 503
        with served(patient) as port, SseClient(port) as busy:
            busy.greet()
            busy.post(call(1, "slow", seconds=0.5))
            with SseClient(port) as silent, SseClient(port):
                while silent.stream.file.readline().strip() != b"0":
                    pass
                assert silent.post(request(1, "ping")).status == 404
                assert json.loads(busy.event("message"))["id"] == 1


async def test_many_sessions_at_once_keep_their_answers_apart(server: HttpServer) -> None:
    async def converse(name: str) -> None:
        async with sse_client(f"{server.url}/sse") as streams, ClientSession(*streams) as session:
            await session.initialize()
            for number in range(5):
                result = await session.call_tool("echo", {"from": name, "number": number})
                assert result.structured_content == {"echo": {"from": name, "number": number}}

    async with anyio.create_task_group() as tasks:
        for index in range(8):
            tasks.start_soon(converse, f"client {index}")
