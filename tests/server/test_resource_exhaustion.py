"""Clients that do not read, or send what is meant to hurt: they cost little, and nobody else notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from mempalace_mcp.server.lines import MAX_MESSAGE_BYTES
from tests.server.clients import HttpServer, RawHttp, SseClient, call, http_server, request, stdio_client

pytestmark = pytest.mark.long

MEBIBYTE = 1024 * 1024
CALLS = 60
ANSWER = 1900 * 1024
"""Almost half of what an answer may have, which carries its content twice."""

SPARE = 160 * MEBIBYTE
"""What a process may grow by, generously; all the answers together, or one long line and its copies, are more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("abuse") / "log") as running:
        yield running


def memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def diagnostics(http: RawHttp) -> Any:
    return http.ask("GET", "/health").json["diagnostics"]


def completed_when_nothing_runs(http: RawHttp, already: int) -> int:
    """Calls that completed, once no call has run for as long as it takes to look a hundred times."""
    quiet = 0
    while quiet < 100:
        now = diagnostics(http)
        quiet = quiet + 1 if now["calls"]["ok"] > already and not now["running_executions"] else 0
    return int(now["calls"]["ok"]) - already


def test_a_client_that_does_not_read_is_not_worked_for(server: HttpServer) -> None:
    with RawHttp(server.port) as http, SseClient(server.port) as client:
        client.greet()
        before, already = memory(server.process.pid), diagnostics(http)["calls"]["ok"]
        calls = [call(number, "large", size=ANSWER) for number in range(CALLS)]
        posting = threading.Thread(target=lambda: [client.post(each) for each in calls])
        posting.start()
        assert completed_when_nothing_runs(http, already) < CALLS // 2
        assert memory(server.process.pid) - before < SPARE
        assert http.ask("POST", "/mcp", call(1, "echo")).json["result"]["isError"] is False
        answered = {json.loads(client.event("message"))["id"] for _ in range(CALLS)}
        posting.join()
    assert answered == set(range(CALLS))


def test_a_line_of_hundred_megabytes_is_refused_by_its_id_in_little_memory() -> None:
    with stdio_client() as client:
        client.greet()
        before = memory(client.process.pid)
        client.stdin.write(b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"text":"')
        for _ in range(100):
            client.stdin.write(b"x" * MEBIBYTE)
        assert memory(client.process.pid) - before < 4 * MAX_MESSAGE_BYTES
        refusal = client.ask(b'"}}\n')
        assert (refusal["id"], refusal["error"]["code"]) == (7, -32600)
        assert client.ask(request(8, "ping"))["id"] == 8


def test_what_takes_long_to_read_is_refused_before_it_is_read(server: HttpServer) -> None:
    body = b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":[' + b"[]," * (5 * MEBIBYTE) + b"[]]}}"
    with RawHttp(server.port) as http:
        refusal = http.ask("POST", "/mcp", body)
        assert (refusal.status, refusal.json["id"]) == (400, 7)
        assert "values" in refusal.json["error"]["message"]
