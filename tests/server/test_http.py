from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.server.http import serve_http
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.health import troubles
from tests.server.clients import (
    HANDSHAKE_REVISIONS,
    INITIALIZED,
    MODERN_REVISION,
    HttpServer,
    RawHttp,
    SseClient,
    call,
    http_server,
    modern,
    request,
)
from tests.server.echo_services import echo_services

pytestmark = pytest.mark.long

ROUTES = ("/health", "/mcp", "/sse", "/messages/?session_id=x", "/nothing")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("http") / "log") as running:
        yield running


@pytest.fixture
def http(server: HttpServer) -> Iterator[RawHttp]:
    with RawHttp(server.port) as connection:
        yield connection


@pytest.mark.parametrize("revision", [None, *HANDSHAKE_REVISIONS])
@pytest.mark.parametrize("message", [call("1", "echo", text="ä\n"), call(-1, "refuse"), call(2, "nothing")])
def test_a_call_past_the_sdk_is_answered_as_one_through_it(
    http: RawHttp, revision: str | None, message: dict[str, Any]
) -> None:
    headers = {} if revision is None else {"MCP-Protocol-Version": revision}
    through = {**message, "params": {**message["params"], "_meta": {"progressToken": 1}}}
    past = http.ask("POST", "/mcp", message, headers)
    assert (past.status, past.headers["content-type"]) == (200, "application/json")
    plain = {**headers, "Accept": "application/json"}  # else progress would be streamed
    assert past.json == http.ask("POST", "/mcp", through, plain).json


def test_the_revision_without_a_handshake_is_spoken(http: RawHttp) -> None:
    headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    result = http.ask("POST", "/mcp", modern(call(1, "echo", a=1)), headers).json["result"]
    assert (result["structuredContent"], result["resultType"]) == ({"echo": {"a": 1}}, "complete")
    refused = http.ask("POST", "/mcp", modern(call(1, "echo", a="\ud800")), headers).json["result"]
    assert refused["structuredContent"]["error"]["argument"] == "a"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
def test_there_are_no_streams_and_sessions_to_manage(http: RawHttp, method: str) -> None:
    response = http.ask(method, "/mcp")
    assert (response.status, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"", -32700, None),
        (b"garbage", -32700, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":1e400}}', -32600, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":' + b'{"a":' * 900 + b"1" + b"}" * 901, -32700, 4),
    ],
)
def test_bodies_are_read_as_strictly_as_lines(http: RawHttp, body: bytes, code: int, request_id: Any) -> None:
    response = http.ask("POST", "/mcp", body)
    assert response.status == 400
    assert (response.json["error"]["code"], response.json["id"]) == (code, request_id)


def test_every_request_of_a_batch_is_refused(http: RawHttp) -> None:
    response = http.ask("POST", "/mcp", [call(1, "echo"), INITIALIZED, request("1", "ping")])
    assert response.status == 400
    assert [(answer["id"], answer["error"]["code"]) for answer in response.json] == [(1, -32600), ("1", -32600)]


@pytest.mark.parametrize("arguments", [b'{"a":1e400}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b'{"a":NaN}'])
def test_arguments_at_fault_make_a_refused_call(http: RawHttp, arguments: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":%s}}' % arguments
    result = http.ask("POST", "/mcp", body).json["result"]
    assert result["isError"] is True
    assert result["structuredContent"]["error"]["argument"] == "a"


@pytest.mark.parametrize("path", ROUTES)
def test_foreign_hosts_and_origins_are_refused_on_every_route(http: RawHttp, path: str) -> None:
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "127.0.0.1:80@evil",
        "",
        "127.1",
    ):
        assert http.ask("GET", path, headers={"Host": host}).status == 421, host
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "file://", "http://localhost@evil"):
        assert http.ask("GET", path, headers={"Origin": origin}).status == 403, origin


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:8765"])
def test_names_of_this_machine_are_welcome(http: RawHttp, host: str) -> None:
    assert http.ask("GET", "/health", headers={"Host": host, "Origin": f"http://{host}"}).status == 200


def test_a_body_too_large_is_refused_whether_declared_or_not(server: HttpServer) -> None:
    with RawHttp(server.port) as http:
        assert http.ask("POST", "/mcp", headers={"Content-Length": str(MAX_MESSAGE_BYTES + 1)}).status == 413
    with RawHttp(server.port) as http:
        head = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        http.socket.sendall(head.encode())
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"

        def pour() -> None:
            try:
                for _ in range(40):
                    http.socket.sendall(chunk)
            except OSError:
                pass  # the server has closed, as it may

        thread = threading.Thread(target=pour)
        thread.start()
        assert http.head().status == 413
        http.socket.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_body_of_just_the_limit_is_read(http: RawHttp) -> None:
    body = json.dumps(request(1, "ping")).encode()
    assert http.ask("POST", "/mcp", body + b" " * (MAX_MESSAGE_BYTES - len(body))).json["result"] == {}


def test_a_burst_of_new_clients_is_served(server: HttpServer) -> None:
    statuses: list[int] = []
    barrier = threading.Barrier(64)

    def arrive() -> None:
        barrier.wait()
        with RawHttp(server.port) as http:
            statuses.append(http.ask("POST", "/mcp", call(1, "echo")).status)

    threads = [threading.Thread(target=arrive) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 64


def test_health_is_told_in_numbers(http: RawHttp) -> None:
    response = http.ask("GET", "/health")
    report = response.json
    assert (response.status, troubles(report)) == (200, [])
    assert report["components"] == {"slow": {"begun": 0, "ended": 0}}
    diagnostics = report["diagnostics"]
    assert diagnostics["conversation_history_limit"] == 5
    assert 0 <= diagnostics["conversation_history_size"] <= 5
    for name in ("thread_count", "asyncio_task_count", "rss_bytes", "open_descriptors", "cpu_seconds"):
        assert diagnostics[name] > 0
    assert set(diagnostics["calls"]) == {"ok", "refused", "error", "cancelled"}
    assert diagnostics["sessions"]["http"] == 1


def test_the_server_stops_with_open_streams_and_leaves_no_noise(tmp_path: Path) -> None:
    with http_server(tmp_path / "log") as server, RawHttp(server.port) as idle:
        assert idle.ask("POST", "/mcp", call(1, "echo")).status == 200
        with SseClient(server.port) as client:
            client.greet()
            code, seconds = server.stop()
            assert code == 0
            assert seconds < 10  # generous: it does not wait for the stream to close
        assert server.log.read_text() == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
async def test_other_hosts_than_loopback_are_refused(host: str) -> None:
    with echo_services() as services, pytest.raises(ConfigurationError, match="needs a token") as caught:
        await serve_http(services, host, 0, lambda port: None)
    assert caught.value.argument == "--host"


async def test_a_port_that_is_taken_is_named(server: HttpServer) -> None:
    with echo_services() as services, pytest.raises(ConfigurationError, match=str(server.port)):
        await serve_http(services, "127.0.0.1", server.port, lambda port: None)
