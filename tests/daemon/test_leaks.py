"""Nothing that lives as long as the process grows with calls, sessions or errors."""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import psutil
import pytest
from starlette.applications import Starlette

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.daemon.daemon_session import AppServices, ToolSelection, services_of
from mempalace_mcp.runtime.app import EXECUTOR_THREADS, App
from mempalace_mcp.server.http import build_http
from mempalace_mcp.server.tools.registry import ToolTable
from tests.daemon.heap_snapshot import HeapSnapshot, growth
from tests.palace.support import opened
from tests.server.clients import call
from tests.server.stream import Wire

THOROUGHNESS = int(os.environ.get("THOROUGHNESS", "1"))
ROUNDS = 16 * THOROUGHNESS
"""Each is a session of its own with about thirty calls; as many come before the first look, and between the two."""

LEAST = 8
"""Half a thing in a round is growth; what breathes by a few things is not."""

ACCEPT = {"Accept": "application/json, text/event-stream"}

WITH_THE_PALACE = ("app.index.", "app.stores.index.")
"""The exact index is a copy of the palace's vectors: it grows with what is filed, as it must."""

TIMERS = "._loop._scheduled"
"""An event loop keeps cancelled timers until they are due or more than a hundred."""


def chores(number: int, files: Path) -> list[dict[str, Any]]:
    """Calls of every tool, with names and words that never came before, and refusals of many kinds."""
    wing, text = f"wing {number}", f"The ferry {number * 7919} leaves from pier {number}, and Ada {number} drinks tea."
    place = {"wing": wing, "room": f"room {number}"}
    subject = {"subject": f"subject {number}", "predicate": f"likes {number}"}
    (files / f"{number}.md").write_text(f"# Note {number}\n\n{text}\n", encoding="utf-8")
    named: list[tuple[str, dict[str, Any]]] = [
        ("add_drawer", {**place, "content": text, "source_file": f"{number}.txt", "added_by": f"agent {number}"}),
        ("checkpoint", {"items": [{**place, "content": f"{text} again"}], "facts": [{**subject, "object": "x"}]}),
        ("check_duplicate", {"content": text}),
        ("list_drawers", place),
        ("search", {"query": f"where does ferry {number} leave from?"}),
        ("search", {"query": f"pier {number}", "mode": "keyword", "wing": wing}),
        ("kg_add", {**subject, "object": f"object {number}"}),
        ("kg_query", {"entity": f"subject {number}"}),
        ("kg_supersede", {**subject, "old_object": f"object {number}", "new_object": f"new {number}"}),
        ("kg_invalidate", {**subject, "object": f"new {number}"}),
        ("kg_timeline", {"entity": f"subject {number}"}),
        ("kg_stats", {}),
        ("diary_write", {"agent_name": f"agent {number}", "entry": f"round {number}", "topic": f"topic {number}"}),
        ("diary_read", {"agent_name": f"agent {number}"}),
        ("delete_drawers", {"wing": wing, "dry_run": number % 2 == 0}),
        ("get_taxonomy", {"wing": wing}),
        ("wake_up", {"wing": wing, "agent_name": f"agent {number}"}),
        ("status", {}),
        ("history", {"limit": 5}),
        ("import_path", {"paths": [str(files / f"{number}.md")], "wing": wing}),
        ("get_drawers", {"drawer_ids": [f"d_{number}"]}),
        ("restore_drawers", {"drawer_ids": [f"d_{number}"]}),
        ("update_drawer", {"drawer_id": f"d_{number}", "content": "x"}),
        ("search", {"query": "", "limit": number}),
        ("kg_invalidate", {"subject": f"nobody {number}", "predicate": "is", "object": "here"}),
        (f"no_such_tool_{number}", {}),
        ("search", {f"no_such_argument_{number}": 1}),
    ]
    if number % 4 == 0:
        named.append(("reconnect", {}))
    return [call(position, tool, **arguments) for position, (tool, arguments) in enumerate(named)]


class Server:
    """A running palace with every transport, as its clients see it."""

    def __init__(self, services: AppServices, app: App, http: Starlette, client: httpx.AsyncClient) -> None:
        self.services = services
        self.app = app
        self.http = http
        self._client = client
        self._number = 0
        self.calls = 0

    async def work(self, rounds: int, files: Path) -> None:
        """So many sessions, one after the other; each makes its calls, and some are cancelled."""
        for _ in range(rounds):
            self._number += 1
            messages = chores(self._number, files)
            async with anyio.create_task_group() as tasks:
                wire = Wire(self.services)
                tasks.start_soon(wire.session.serve)
                await wire.greet()
                for message in messages:
                    assert (await wire.ask(message))["id"] == message["id"]
                await wire.send(call("gone", "search", query=f"cancelled {self._number}"))
                await wire.send(
                    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "gone"}}
                )
                await wire.send(b'{"jsonrpc": "2.0", "id": ')
                await wire.receive()
                wire.close()
            await self._ask_over_http()
            self.calls += len(messages) + 3

    async def _ask_over_http(self) -> None:
        for body in (call(1, "search", query=f"http {self._number}"), call(2, "fails", argument=self._number)):
            response = await self._client.post("/mcp", json=body, headers=ACCEPT)
            assert response.status_code == 200
        for path in ("/health", "/metrics", "/api/history?limit=3", f"/api/history?cursor={self._number}", "/nowhere"):
            await self._client.get(path)

    async def snapshot(self) -> HeapSnapshot:
        """What is held, once nothing is left to do."""
        while self.app.executor.statistics().running or self.app.writer.statistics().committing:
            await anyio.sleep(0.001)
        if self.app.embedder.ready:
            assert await anyio.to_thread.run_sync(self.app.indexer.wait_until_idle, 60)
        return HeapSnapshot({"app": self.app, "services": self.services, "http": self.http})


@asynccontextmanager
async def serving(
    directory: Path, *, started: bool, plant: Callable[[AppServices], AppServices]
) -> AsyncIterator[Server]:
    with opened(directory / "palace", started=started, PALACE_HISTORY_LIMIT="20", PALACE_INDEX="exact") as app:
        services = plant(services_of(app, ToolSelection("full")))
        http = build_http(services)
        transport = httpx.ASGITransport(http)
        async with (
            http.router.lifespan_context(http),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            yield Server(services, app, http, client)


def unexplained(before: HeapSnapshot, after: HeapSnapshot) -> dict[str, str]:
    found = growth(before, after, LEAST)
    return {
        place: how
        for place, how in found.items()
        if not place.startswith(WITH_THE_PALACE) and not place.endswith(TIMERS)
    }


def threads_by_kind() -> Counter[str]:
    """Names of all threads but those of the executor, which come when they are needed, up to their number."""
    names = [thread.name for thread in threading.enumerate()]
    assert sum(name.startswith("palace") for name in names) <= EXECUTOR_THREADS
    return Counter(name for name in names if not name.startswith("palace"))


def as_it_is(services: AppServices) -> AppServices:
    return services


async def test_nothing_grows_with_calls_sessions_and_errors(tmp_path: Path) -> None:
    process = psutil.Process()
    async with serving(tmp_path, started=True, plant=as_it_is) as server:
        await server.work(ROUNDS, tmp_path)
        before, threads, descriptors = await server.snapshot(), threads_by_kind(), process.num_fds()
        await server.work(ROUNDS, tmp_path)
        after = await server.snapshot()
        found = unexplained(before, after)
        assert not found, "\n".join(f"{p}: {h}" for p, h in found.items())
        assert threads_by_kind() == threads
        assert process.num_fds() <= descriptors + LEAST
        statistics = server.app.activity.statistics()
        assert sum(statistics.calls.values()) >= server.calls - 2 * server._number
        assert statistics.running == 0


class Leaky:
    """A table of tools that remembers something of every call."""

    def __init__(self, table: ToolTable, remember: Callable[[str, bool], object]) -> None:
        self._table = table
        self._remember = remember
        self.instructions = table.instructions
        self.names = table.names
        self.definitions = table.definitions
        self.runs_in_writer = table.runs_in_writer

    def call(self, context: Any, name: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        failed = True
        try:
            answer = self._table.call(context, name, arguments, deadline)
            failed = False
        finally:
            self._remember(str(arguments), failed)
        return answer


def list_of_calls(package: ModuleType) -> Callable[[str, bool], object]:
    kept: list[str] = []
    return lambda asked, failed: kept.append(asked)


def errors_by_text(package: ModuleType) -> Callable[[str, bool], object]:
    kept: dict[str, bool] = {}
    return lambda asked, failed: failed and kept.update({asked: failed})


def cache_without_limit(package: ModuleType) -> Callable[[str, bool], object]:
    return functools.lru_cache(maxsize=None)(lambda asked, failed: None)


def state_of_a_module(package: ModuleType) -> Callable[[str, bool], object]:
    package.kept = set()  # type: ignore[attr-defined]
    return lambda asked, failed: package.kept.add(asked)


def queue_that_nobody_empties(package: ModuleType) -> Callable[[str, bool], object]:
    kept: deque[tuple[str, bool]] = deque()
    return lambda asked, failed: kept.append((asked, failed))


LEAKS = (list_of_calls, errors_by_text, cache_without_limit, state_of_a_module, queue_that_nobody_empties)


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
async def test_a_planted_leak_is_found(
    leak: Callable[[ModuleType], Callable[[str, bool], object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "kept", None, raising=False)

    def plant(services: AppServices) -> AppServices:
        return replace(services, tools=Leaky(services.tools, leak(text)))  # type: ignore[arg-type]

    async with serving(tmp_path, started=False, plant=plant) as server:
        await server.work(1, tmp_path)
        before = await server.snapshot()
        await server.work(2, tmp_path)
        found = unexplained(before, await server.snapshot())
        assert [place for place in found if "kept" in place or place.endswith("()")], found
