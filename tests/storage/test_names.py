from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.text import name_key
from mempalace_mcp.storage.queries import Names
from tests.storage.drawer_support import Cabinet, cabinet, name, whole
from tests.storage.graph_support import fresh_graph
from tests.storage.support import plan, traced


@pytest.fixture
def palace() -> Iterator[Cabinet]:
    with cabinet() as palace:
        yield palace


def test_names_that_begin_so_come_before_those_that_hold_it(palace: Cabinet) -> None:
    for wing in ("Kitchen", "old kit", "Kite", "garden"):
        palace.file("text", wing=wing)
    found = Names().wings(palace.connection, "KIT", 10)
    assert (found.values, found.total) == (["Kitchen", "Kite", "old kit"], 3)
    assert Names().wings(palace.connection, "", 10).values == ["garden", "Kitchen", "Kite", "old kit"]
    assert Names().wings(palace.connection, "%", 10).total == 0


def test_the_total_counts_what_the_limit_leaves_out(palace: Cabinet) -> None:
    for number in range(7):
        palace.file("text", wing=f"wing {number}")
    for begun in ("w", "ing", ""):
        found = Names().wings(palace.connection, begun, 3)
        assert (found.values, found.total) == (["wing 0", "wing 1", "wing 2"], 7)


def test_rooms_are_those_of_the_wing_or_of_all(palace: Cabinet) -> None:
    for wing, room in (("A", "tea"), ("A", "table"), ("B", "Tea"), ("B", "toast")):
        palace.file(f"{wing} {room}", wing=wing, room=room)
    assert Names().rooms(palace.connection, "t", 10, wing="a").values == ["table", "tea"]
    everywhere = Names().rooms(palace.connection, "t", 10)
    assert ([name_key(each) for each in everywhere.values], everywhere.total) == (["table", "tea", "toast"], 3)
    assert Names().rooms(palace.connection, "", 10, wing="nowhere").total == 0


def test_what_holds_no_live_drawer_is_not_named(palace: Cabinet) -> None:
    gone = palace.file("text", wing="Gone", room="gone").drawer_id
    entry = palace.write(lambda tx: palace.diary.write(tx, name("Ada"), "words", "day", None, whole("words")))
    palace.write(lambda tx: palace.drawers.delete(tx, [gone, entry.drawer_id]))
    assert Names().wings(palace.connection, "", 10).values == []
    assert Names().rooms(palace.connection, "", 10).values == []
    assert Names().rooms(palace.connection, "", 10, wing="gone").values == []
    assert Names().agents(palace.connection, "", 10).values == []


def test_each_agent_is_named_once_however_much_it_wrote(palace: Cabinet) -> None:
    for agent, entry in (("Ada", "one"), ("ada", "two"), ("Bob", "three"), ("ADA", "four")):
        palace.write(
            partial(palace.diary.write, agent=name(agent), entry=entry, topic="day", wing=None, spans=whole(entry))
        )
    assert Names().agents(palace.connection, "", 10).values == ["Ada", "Bob"]
    assert Names().agents(palace.connection, "D", 10).values == ["Ada"]


def test_only_the_wings_in_reach_count(palace: Cabinet) -> None:
    for wing, room in (("A", "tea"), ("B", "table")):
        palace.file("text", wing=wing, room=room)
    palace.write(lambda tx: palace.diary.write(tx, name("Ada"), "words", "day", None, whole("words")))
    names = Names(within=["b"])
    assert names.wings(palace.connection, "", 10).values == ["B"]
    assert names.rooms(palace.connection, "", 10).values == ["table"]
    assert names.rooms(palace.connection, "", 10, wing="a").values == []
    assert names.agents(palace.connection, "", 10).values == names.entities(palace.connection, "", 10).values == []
    assert Names(within=["wing_ada"]).agents(palace.connection, "", 10).values == ["Ada"]


def test_entities_are_compared_as_they_are_stored() -> None:
    with fresh_graph() as graph:
        for entity in ("Anna", "ann", "Bob", "ANNABEL", "\u00c5sa", "A\U0010ffff"):
            graph.add(entity, "is", "known")

        def entities(begun: str, limit: int = 100) -> list[str]:
            return list(Names().entities(graph.connection, begun, limit).values)

        assert entities("AN") == ["ann", "Anna", "ANNABEL"]
        assert entities("an", 2) == ["ann", "Anna"]
        assert entities("A\u030a") == ["\u00c5sa"]
        assert entities("")[-1] == "\u00c5sa"
        assert entities("bel") == ["ANNABEL"]
        assert entities("%") == entities("x") == []


def test_long_lists_are_not_sorted_as_a_whole(palace: Cabinet) -> None:
    with traced(palace.connection) as statements:
        Names().entities(palace.connection, "a", 100)
    steps = [step for statement in statements for step in plan(palace.connection, statement)]
    assert any("SEARCH entities" in step and "key>?" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_whatever_is_begun_finds_only_what_holds_it(begun: str) -> None:
    with cabinet() as palace:
        for wing in ("Straße", "ÅSA", "i̇stanbul"):
            palace.file("text", wing=wing)
        key = name_key(begun.lstrip())
        if not begun.isprintable():
            return
        assert all(key in name_key(each) for each in Names().wings(palace.connection, begun, 10).values)
