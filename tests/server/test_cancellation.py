"""A cancelled call: not begun, it never begins; a write of it is whole or not there. How calls count in the end."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import anyio

from mempalace_mcp.runtime.activity import Outcome
from tests.server.clients import call, request
from tests.server.echo_services import echo_services
from tests.server.stream import PalaceWire, palace_session, served

ROUNDS = 150
ITEMS = 3


def cancelled(number: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


async def until_idle(wire: PalaceWire) -> None:
    """Wait until nothing of a cancelled call is left at work, and every other one is answered."""
    while wire.app.executor.statistics().running or wire.session.in_flight:
        await anyio.sleep(0.001)


async def test_a_call_that_is_cancelled_with_the_next_message_never_begins() -> None:
    with echo_services() as services:
        async with served(services) as wire:
            await wire.greet()
            for number in range(20):
                await wire.send(call(number, "slow", seconds=60))
                await wire.send(cancelled(number))
            assert (await wire.ask(request("next", "ping")))["id"] == "next"
            assert services.tool_context.begun == 0
            assert wire.session.in_flight == 0
            assert wire.unread == 0


async def test_a_cancelled_write_is_whole_or_not_there(tmp_path: Path) -> None:
    dice = random.Random(11)
    async with palace_session(tmp_path) as wire:
        for number in range(ROUNDS):
            items = [{"wing": f"w{number}", "room": "r", "content": f"text {number} {item}"} for item in range(ITEMS)]
            facts = [{"subject": f"s{number}", "predicate": "has", "object": f"o{item}"} for item in range(ITEMS)]
            diary = {"agent_name": f"a{number}", "entry": f"entry {number}", "wing": f"w{number}"}
            await wire.send(call(number, "checkpoint", items=items, facts=facts, diary=diary))
            await anyio.sleep(dice.uniform(0, 0.006))
            await wire.send(cancelled(number))
        await until_idle(wire)
        whole = {number for number in range(ROUNDS) if is_whole(wire, number)}
        answered = {(await wire.receive())["id"] for _ in range(wire.unread)}
        assert answered <= whole
        assert 0 < len(whole) < ROUNDS, "every call was cancelled too early, or every one too late"
        outcomes = wire.activity.outcomes
        begun = sum(outcomes.values())  # not all of them, if some were cancelled soon enough
        assert (outcomes[Outcome.OK], outcomes[Outcome.CANCELLED]) == (len(answered), begun - len(answered))


async def test_an_empty_answer_is_a_success(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        answer = await wire.ask(call(1, "search", query="nothing is filed", mode="keyword"))
        assert answer["result"]["structuredContent"]["results"] == []
        assert [record.outcome for record in wire.activity.history] == [Outcome.OK]


async def test_a_session_that_ends_without_an_answer_is_no_success() -> None:
    with echo_services() as services:
        async with served(services) as wire:
            await wire.greet()
            await wire.send(call(1, "slow", seconds=60))
            while not services.tool_context.begun:
                await anyio.sleep(0.001)
        assert wire.activity.outcomes == {**dict.fromkeys(Outcome, 0), Outcome.CANCELLED: 1}


def is_whole(wire: PalaceWire, number: int) -> bool:
    """Is the checkpoint there with all its parts? If not, none of them is."""
    drawers = wire.palace.list_drawers(wing=f"w{number}").total
    facts = len(wire.palace.kg_query(f"s{number}").facts)
    entries = wire.palace.diary_read(f"a{number}").total
    parts = (drawers - entries, facts, entries)
    assert parts in ((ITEMS, ITEMS, 1), (0, 0, 0)), f"checkpoint {number} is half done: {parts}"
    return parts != (0, 0, 0)
