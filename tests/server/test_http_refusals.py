"""What is refused before it is a message: over HTTP too an error that a client can show, with the id of its request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import ClientSession, MCPError
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from mempalace_mcp.cli import tokens
from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.palace.support import at
from tests.server.clients import (
    MODERN_REVISION,
    HttpServer,
    RawHttp,
    Response,
    SseClient,
    call,
    event,
    http_server,
    initialize,
    modern,
    request,
)
from tests.server.test_accounts import served

pytestmark = pytest.mark.long

HELLO = call("seven", "echo", a=1)
LAST: dict[str, Any] = {"method": "ping", "params": {"text": "x"}, "jsonrpc": "2.0", "id": 7}
"""As clients in TypeScript write a request: with its id at the end."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("refusing") / "log") as running:
        yield running


@pytest.fixture
def http(server: HttpServer) -> Iterator[RawHttp]:
    with RawHttp(server.port) as connection:
        yield connection


def verify_refusal(answer: Response, status: int, request_id: Any, *words: str) -> dict[str, Any]:
    """The error of a refusal in the shape of the protocol."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    told = answer.json
    assert (told["jsonrpc"], told["id"]) == ("2.0", request_id)
    error: dict[str, Any] = told["error"]
    assert isinstance(error["code"], int)
    assert set(error["data"]) >= {"code", "message", "argument", "hint", "retryable"}
    assert error["data"]["message"] in error["message"]
    assert error["data"]["hint"] in error["message"], "few clients show more than the message"
    for word in words:
        assert word in error["message"]
    return error


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/messages/?session_id=0", "/messages?session_id=0"])
def test_refused_messages_are_answered_by_their_id(http: RawHttp, path: str) -> None:
    foreign = {"Host": "palace.example:8765"}
    verify_refusal(http.ask("POST", path, HELLO, foreign), 421, "seven", "--allowed-host palace.example ")
    verify_refusal(http.ask("POST", path, LAST, {"Origin": "http://evil.example"}), 403, 7, "Origin")
    verify_refusal(http.ask("POST", path, HELLO, {"Content-Type": "text/plain"}), 415, "seven", "application/json")
    verify_refusal(http.ask("PUT", path, HELLO), 405, None, "POST")
    verify_refusal(http.ask("POST", path, b"garbage", foreign), 421, None)
    verify_refusal(http.ask("POST", path, b'{"id": 5, "method": garbage', foreign), 421, 5)
    verify_refusal(http.ask("POST", path, {"jsonrpc": "2.0", "id": 5, "result": {}}, foreign), 421, None)
    assert http.ask("POST", "/mcp", HELLO).status == 200, "the connection is as good as before"


def test_a_message_for_no_session_says_where_there_is_one(http: RawHttp) -> None:
    for path in ("/messages/?session_id=unknown", "/messages/", "/messages"):
        verify_refusal(http.ask("POST", path, HELLO), 404, "seven", "GET /sse")


def test_messages_to_the_stream_say_where_they_belong(http: RawHttp) -> None:
    verify_refusal(http.ask("POST", "/sse", HELLO), 405, "seven", "/messages/")


def test_what_is_too_large_is_refused_by_its_id(server: HttpServer) -> None:
    head = json.dumps(call("big", "echo"))[:-1].encode() + b',"x":"'
    with RawHttp(server.port) as http:
        http.begin("POST", "/mcp", head, {"Content-Length": str(MAX_MESSAGE_BYTES + 1)})
        http.socket.sendall(b"x" * (1 << 20))
        assert http.head().status == 413
        http.socket.shutdown(socket.SHUT_WR)
    with RawHttp(server.port) as http:
        http.socket.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (head, *([b"x" * (1 << 20)] * 16)):
            http.socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        answer = http.head()
        length = int(answer.headers["content-length"])
        verify_refusal(Response(answer.status, answer.headers, http.file.read(length)), 413, "big", "less at a time")


@pytest.mark.parametrize("accept", [None, "*/*", "application/*", "application/json", "text/*, application/json;q=0.1"])
@pytest.mark.parametrize("message", [HELLO, request("seven", "ping"), initialize(), request("seven", "prompts/list")])
def test_whoever_accepts_json_gets_it(server: HttpServer, accept: str | None, message: dict[str, Any]) -> None:
    fields = "" if accept is None else f"Accept: {accept}\r\n"
    body = json.dumps(message).encode()
    with RawHttp(server.port) as http:
        head = f"POST /mcp/ HTTP/1.1\r\nHost: localhost\r\ncontent-type: Application/JSON; charset=utf-8\r\n{fields}"
        http.socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = http.head()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(http.file.read(int(answer.headers["content-length"])))["id"] == message["id"]


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "text/*", "application/json;q=0, */*", "*/*, application/json; q=0.0"]
)
@pytest.mark.parametrize("message", [HELLO, request("seven", "ping")])
def test_whoever_accepts_events_alone_gets_them(http: RawHttp, accept: str, message: dict[str, Any]) -> None:
    http.begin("POST", "/mcp", message, {"Accept": accept})
    assert http.head().headers["content-type"].startswith("text/event-stream")
    assert event(http)["id"] == "seven"


@pytest.mark.parametrize("accept", ["text/html", "application/xml, image/*", "*/*;q=0", "text/event-streams"])
def test_whoever_accepts_nothing_that_there_is_is_told(http: RawHttp, accept: str) -> None:
    verify_refusal(http.ask("POST", "/mcp", HELLO, {"Accept": accept}), 406, "seven", "application/json")
    verify_refusal(http.ask("GET", "/sse", b"", {"Accept": accept}), 406, None, "text/event-stream")
    later = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    verify_refusal(http.ask("POST", "/mcp", modern(HELLO), {"Accept": accept, **later}), 406, "seven")


@pytest.mark.parametrize("accept", ["*/*", "text/*", "application/json, text/event-stream;q=0.5"])
@pytest.mark.parametrize("path", ["/sse", "/sse/"])
def test_streams_open_for_whoever_accepts_events(server: HttpServer, path: str, accept: str) -> None:
    with RawHttp(server.port) as http:
        assert http.ask("HEAD", path, b"", {"Accept": accept}).headers["content-type"].startswith("text/event-stream")
        http.begin("GET", path, b"", {"Accept": accept})
        assert http.head().status == 200


def test_probes_and_unknown_addresses_answer_json(http: RawHttp) -> None:
    for path in ("/health", "/livez", "/readyz", "/metrics", "/api/history"):
        http.begin("HEAD", path)
        assert http.head().status == http.ask("GET", path).status == 200
        refused = http.ask("POST", path, HELLO)
        assert (refused.status, refused.headers["content-type"]) == (405, "application/json")
        assert "GET" in refused.headers["allow"]
        assert "GET" in refused.json["error"]
        assert isinstance(http.ask("GET", path, b"", {"Host": "evil.example"}).json["error"], str)
    for path in ("/", "/mcp/x", "/MCP", "/health/", "/.well-known/oauth-protected-resource/mcp", "/register", "//mcp"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = http.ask(method, path, HELLO)
            assert (answer.status, answer.json["error"]) == (404, "not_found"), path


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80"])
def test_a_name_that_is_not_the_servers_is_told_with_the_remedy(http: RawHttp, host: str) -> None:
    assert "--allowed-host evil.example " in http.ask("GET", "/health", headers={"Host": host}).json["error"]
    for odd in ("a b", "<script>", "x" * 5000, "127.0.0.1:80@evil"):
        answer = http.ask("GET", "/health", headers={"Host": odd})
        assert answer.status == 421
        assert odd not in answer.body.decode()


async def reason_of(client: Client) -> str:
    """Why it cannot connect, as it says itself."""
    try:
        async with client:
            await client.list_tools()
    except (MCPError, BaseExceptionGroup) as errors:
        return " ".join(map(str, leaves(errors)))
    raise AssertionError("it was let in")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has a token."""
    palace = tmp_path_factory.mktemp("guarded") / "palace"
    tokens.make_token(at(palace), "laptop", "write", [], False)
    with served(palace) as announced:
        yield announced["address"]


@pytest.mark.parametrize("mode", ["legacy", "auto", MODERN_REVISION])
async def test_the_official_client_without_a_token_shows_the_reason(guarded: str, mode: str) -> None:
    assert "Authorization: Bearer" in await reason_of(Client(f"{guarded}/mcp/", mode=mode))


async def test_a_session_of_the_official_client_shows_the_reason(guarded: str) -> None:
    async with streamable_http_client(f"{guarded}/mcp") as streams, ClientSession(*streams[:2]) as session:
        with pytest.raises(MCPError, match="Authorization: Bearer"):
            await session.initialize()


async def test_the_official_client_is_served_at_either_address(server: HttpServer) -> None:
    async with streamable_http_client(f"{server.url}/mcp/") as streams, ClientSession(*streams[:2]) as session:
        await session.initialize()
        assert (await session.call_tool("echo", {"a": 1})).structured_content == {"echo": {"a": 1}}
        with pytest.raises(MCPError):
            await session.read_resource("palace://nothing")
    async with sse_client(f"{server.url}/sse/") as streams, ClientSession(*streams) as session:
        await session.initialize()
        assert (await session.call_tool("echo", {"a": 1})).structured_content == {"echo": {"a": 1}}


def test_messages_are_taken_with_and_without_a_slash(server: HttpServer) -> None:
    with SseClient(server.port) as client:
        client.path = client.path.replace("/messages/", "/messages")
        client.greet()
        assert client.ask(request(1, "ping"))["id"] == 1
