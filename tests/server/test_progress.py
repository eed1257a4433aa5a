"""Long calls tell how far they are, through every transport, and end when their client says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.server.calls import PERIOD_SECONDS, ProgressReporter
from tests.palace.support import opened
from tests.server.clients import (
    MODERN_REVISION,
    HttpServer,
    RawHttp,
    SseClient,
    call,
    event,
    http_server,
    modern,
    request,
    stdio_client,
)

pytestmark = pytest.mark.long

PROGRESS = "notifications/progress"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_server(tmp_path_factory.mktemp("http") / "log") as server:
        yield server


def slow(number: Any, seconds: float, token: Any = None) -> dict[str, Any]:
    message = call(number, "slow", seconds=seconds)
    if token is not None:
        message["params"]["_meta"] = {"progressToken": token}
    return message


def cancelled(number: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


def running(http: RawHttp) -> int:
    executions: int = http.ask("GET", "/health").json["diagnostics"]["running_executions"]
    return executions


def wait_until_nothing_runs(server: HttpServer) -> None:
    with RawHttp(server.port) as http:
        while running(http):
            pass


async def test_only_what_is_more_than_before_is_told() -> None:
    progress = ProgressReporter()
    told: list[tuple[float, float | None, str | None]] = []
    next_one = anyio.Event()

    async def send(*news: Any) -> None:
        told.append(news)
        next_one.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.run, send)
            for done in (3, 2, 5):
                progress.note(done, 10, f"{done} of 10")
                if done == 2:
                    await anyio.sleep(2 * PERIOD_SECONDS)
                else:
                    await next_one.wait()
                    next_one = anyio.Event()
            tasks.cancel_scope.cancel()
    assert told == [(3, 10, "3 of 10"), (5, 10, "5 of 10")]


def test_over_stdio_progress_rises_until_the_call_is_cancelled() -> None:
    with stdio_client() as client:
        client.greet()
        client.send(slow("long", 60, token="mine"), slow("silent", 60))
        reports = [client.receive()["params"] for _ in range(2)]
        assert [report["progressToken"] for report in reports] == ["mine", "mine"]
        assert 1 <= reports[0]["progress"] < reports[1]["progress"]
        client.send(cancelled("long"), cancelled("silent"), request("after", "ping"))
        while (message := client.receive()).get("method") == PROGRESS:
            pass
        assert message["id"] == "after"
        assert client.finish() == (0, [])


def test_over_sse_progress_rises_until_the_call_is_cancelled(server: HttpServer) -> None:
    with SseClient(server.port) as client:
        client.greet()
        assert client.post(slow(7, 60, token=0)).status == 202
        reports = [json.loads(client.event("message"))["params"] for _ in range(2)]
        assert [report["progressToken"] for report in reports] == [0, 0]
        assert 1 <= reports[0]["progress"] < reports[1]["progress"]
        assert client.post(cancelled(7)).status == 202
        wait_until_nothing_runs(server)
        assert client.post(request(8, "ping")).status == 202
        while (message := json.loads(client.event("message"))).get("method") == PROGRESS:
            pass
        assert message["id"] == 8


def test_over_http_progress_precedes_the_answer_in_its_own_response(server: HttpServer) -> None:
    with RawHttp(server.port) as http:
        http.begin("POST", "/mcp", slow(1, 1.8, token="t"), {"MCP-Protocol-Version": "2025-11-25"})
        assert http.head().headers["content-type"].startswith("text/event-stream")
        report = event(http)
        assert (report["method"], report["params"]["progressToken"]) == (PROGRESS, "t")
        while (answer := event(http)).get("method") == PROGRESS:
            assert answer["params"]["progress"] > report["params"]["progress"]
        assert (answer["id"], answer["result"]["structuredContent"]) == (1, {"slept": True})
    with RawHttp(server.port) as http:
        silent = http.ask("POST", "/mcp", slow(1, 0.01), {"MCP-Protocol-Version": "2025-11-25"})
        assert silent.headers["content-type"] == "application/json"


def test_the_revision_without_a_handshake_cancels_by_closing_the_stream(server: HttpServer) -> None:
    headers = {"MCP-Protocol-Version": MODERN_REVISION, "Mcp-Method": "tools/call", "Mcp-Name": "slow"}
    message = modern(call(1, "slow", seconds=60))
    message["params"]["_meta"]["progressToken"] = 5
    with RawHttp(server.port) as http:
        http.begin("POST", "/mcp", message, headers)
        assert http.head().headers["content-type"].startswith("text/event-stream")
        assert event(http)["params"]["progressToken"] == 5
        with RawHttp(server.port) as other:
            assert running(other) == 1
    wait_until_nothing_runs(server)
    with RawHttp(server.port) as http:
        quick = http.ask("POST", "/mcp", modern(call(1, "slow", seconds=0.01)), headers)
        assert (quick.status, quick.headers["content-type"]) == (200, "application/json")


def test_an_import_reports_each_of_its_steps(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nIts text.\n", encoding="utf-8")
    reports: list[tuple[float, float | None, str]] = []
    deadline = Deadline()
    deadline.report = lambda *report: reports.append(report)
    with opened(tmp_path / "palace", started=False, PALACE_IMPORT_ROOTS=str(tmp_path)) as app:
        summary = AppContext(app).import_paths([str(folder)], wing=None, dry_run=False, deadline=deadline)
    assert summary["filed"] == 5
    assert [done for done, _, _ in reports] == list(range(1, len(reports) + 1))
    assert reports[-1][2] == "5 drawers filed, now at 4.md"
