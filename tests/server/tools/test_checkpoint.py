from __future__ import annotations

from typing import Any

import pytest

from tests.server.tools.support import DRAWER, Client

FACT = {"subject": "Ada", "predicate": "drinks", "object": "Darjeeling"}
ENTRY = {"agent_name": "scribe", "entry": "Filed what Ada drinks."}


def test_everything_is_stored_and_answered_in_order(client: Client) -> None:
    items = [DRAWER, {**DRAWER, "content": "Two.", "metadata": {"n": 2}, "occurred_at": "2026-05-08"}, DRAWER]
    answer = client.call("checkpoint", items=items, facts=[FACT, FACT], diary=ENTRY, added_by="Ada")
    assert [drawer["created"] for drawer in answer["drawers"]] == [True, True, False]
    assert [fact["created"] for fact in answer["facts"]] == [True, False]
    assert answer["diary"]["agent"] == "scribe"
    assert answer["diary"]["topic"] == "general"
    drawers = client.call("get_drawers", drawer_ids=[answer["drawers"][1]["drawer_id"]])["drawers"]
    assert drawers[0]["metadata"] == {"n": 2}
    assert drawers[0]["added_by"] == "Ada"
    assert client.call("kg_query", entity="Ada")["facts"][0]["fact_id"] == answer["facts"][0]["fact_id"]
    assert client.call("diary_read", agent_name="scribe")["total"] == 1


def test_parts_may_be_absent(client: Client) -> None:
    answer = client.call("checkpoint", items=[DRAWER], facts="", diary="", added_by="")
    assert answer["facts"] == []
    assert answer["diary"] is None
    assert client.call("checkpoint", items=[], facts=[FACT])["drawers"] == []
    assert client.call("checkpoint", facts=[{**FACT, "object": "Oolong"}])["facts"][0]["created"]
    assert client.call("checkpoint", diary=ENTRY)["diary"]["agent"] == "scribe"


def test_many_drawers_at_once(client: Client) -> None:
    items = [{**DRAWER, "content": f"Cup {number}."} for number in range(500)]
    answer = client.call("checkpoint", items=items)
    assert len({drawer["drawer_id"] for drawer in answer["drawers"]}) == 500


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"facts": [], "diary": {}, "added_by": "Ada"}, "items"),
        ({"items": [DRAWER] * 501}, "items"),
        ({"items": [DRAWER, DRAWER, {**DRAWER, "content": "x" * 5_000_000}]}, "items[2].content"),
        ({"items": [DRAWER, {**DRAWER, "content": "a\0b"}]}, "items[1].content"),
        ({"items": [DRAWER, {**DRAWER, "content": ""}]}, "items[1].content"),
        ({"items": [DRAWER, {**DRAWER, "wing": "\ud800"}]}, "items[1].wing"),
        ({"items": [DRAWER, {**DRAWER, "occurred_at": "soon"}]}, "items[1].occurred_at"),
        ({"items": [DRAWER, {**DRAWER, "title": "t"}]}, "items[1].title"),
        ({"items": [DRAWER, {"wing": "w", "room": "r"}]}, "items[1].content"),
        ({"items": {"0": DRAWER}}, "items"),
        ({"items": [DRAWER], "facts": [{**FACT, "valid_from": "last May", "valid_to": ""}]}, "facts[0].valid_from"),
        (
            {"items": [DRAWER], "facts": [FACT, {**FACT, "valid_from": "2026-02-01", "valid_to": "2026-01-01"}]},
            "facts[1].valid_to",
        ),
        ({"items": [DRAWER], "facts": [{**FACT, "source_drawer_id": "d_1"}]}, "facts[0].source_drawer_id"),
        ({"items": [DRAWER], "diary": {"agent_name": "scribe", "entry": " "}}, "diary.entry"),
        ({"items": [DRAWER], "diary": {"agent_name": "scribe", "content": "c"}}, "diary.content"),
        ({"items": [DRAWER], "added_by": "a\nb"}, "added_by"),
    ],
)
def test_one_fault_refuses_all_of_it(empty: Client, arguments: dict[str, Any], argument: str) -> None:
    shown = empty.refuse("checkpoint", **arguments)
    assert shown["argument"] == argument
    assert empty.call("list_drawers")["total"] == 0
    assert empty.call("kg_stats")["facts"] == 0
