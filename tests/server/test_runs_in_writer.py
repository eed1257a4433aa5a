"""Calls that run where they write, instead of in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.call_context import FULL, Deadline, Principal
from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.writer import GROUP_LIMIT
from mempalace_mcp.server.calls import ToolCalls
from mempalace_mcp.server.jsonrpc import Result
from mempalace_mcp.server.request_context import RequestContext, SessionContext
from mempalace_mcp.server.tools.registry import CORE
from tests.palace.support import opened

FACT = {"subject": "Ada", "predicate": "works at", "object": "Acme"}
BRIEF: dict[str, dict[str, str]] = {
    "kg_add": FACT,
    "kg_supersede": {"subject": "Ada", "predicate": "works at", "old_object": "Acme", "new_object": "Initech"},
    "kg_invalidate": {"subject": "Ada", "predicate": "works at", "object": "Initech"},
    "add_drawer": {"wing": "harbour", "room": "notes", "content": "The pier was mended in March."},
}

TOOLS = {tool.name: tool for tool in CORE}

Ask = Callable[..., Any]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with opened(tmp_path, started=False) as app:
        yield app


@pytest.fixture
def ask(app: App) -> Iterator[Ask]:
    """Calls a tool, with a message of that size and that access."""
    calls, session = ToolCalls(services_of(app, ToolSelection())), app.activity.open(Transport.STDIO)

    async def ask(tool: str, arguments: Mapping[str, Any], size: int = 100, access: Principal = FULL) -> Result:
        request = RequestContext(SessionContext(session), size, access=access)
        return await calls.answer(request, {"name": tool, "arguments": arguments})

    yield ask
    session.close()


async def test_need_no_thread_of_their_own(app: App, ask: Ask) -> None:
    app.executor.close()
    answers = [await ask(tool, arguments) for tool, arguments in BRIEF.items()]
    assert [answer.content["isError"] for answer in answers] == [False] * len(BRIEF)
    assert answers[0].content["structuredContent"]["created"]
    assert "closed" in (await ask("kg_query", {"entity": "Ada"})).encoded.decode()
    assert [drawer.content for drawer in app.palace.list_drawers(wing="harbour").items] == [
        "The pier was mended in March."
    ]
    told = app.palace.kg_query("Ada")
    assert [(fact.object, fact.valid_to is None) for fact in told.facts] == [("Initech", False), ("Acme", False)]
    assert {str(outcome): count for outcome, count in app.activity.statistics().calls.items() if count} == {
        "ok": len(BRIEF),
        "refused": 1,
    }


async def test_refuse_as_ever(app: App, ask: Ask) -> None:
    app.executor.close()
    refusals = [
        await ask("kg_add", {**FACT, "valid_from": "last week"}),
        await ask("kg_add", {**FACT, "colour": "red"}),
        await ask("kg_invalidate", FACT),
        await ask("kg_add", FACT, access=Principal(name="reader", writes=False)),
        await ask("kg_add", FACT, access=Principal(name="guest", wings=("project",))),
    ]
    assert [answer.content["structuredContent"]["error"]["code"] for answer in refusals] == [
        "invalid_argument",
        "invalid_argument",
        "not_found",
        "read_only",
        "forbidden",
    ]
    assert app.palace.kg_stats().facts == 0


@pytest.mark.parametrize("tool", ["kg_add", "add_drawer"])
async def test_long_ones_take_a_thread(app: App, ask: Ask, tool: str) -> None:
    app.executor.close()
    longest = TOOLS[tool].bytes_in_writer
    assert longest >= 1024
    assert not (await ask(tool, BRIEF[tool], size=longest)).content["isError"]
    assert "closed" in (await ask(tool, BRIEF[tool], size=longest + 1)).encoded.decode()


def test_texts_that_take_a_while_to_read_are_long() -> None:
    """Every other write would wait for them."""
    assert TOOLS["add_drawer"].bytes_in_writer <= 2048
    assert not TOOLS["checkpoint"].bytes_in_writer


async def test_take_turns_with_others_when_many_wait(app: App, ask: Ask) -> None:
    entered, leave = threading.Event(), threading.Event()

    def linger(_transaction: object) -> None:
        entered.set()
        leave.wait()

    first = app.writer.submit(linger, Deadline())
    await asyncio.to_thread(entered.wait)
    waiting = [app.writer.submit(lambda _: None, Deadline()) for _ in range(GROUP_LIMIT)]
    late = asyncio.create_task(ask("kg_add", FACT))
    while not app.executor.statistics().running:
        await asyncio.sleep(0)
    leave.set()
    assert not (await late).content["isError"]
    assert [each.result() for each in (first, *waiting)] == [None] * (GROUP_LIMIT + 1)
