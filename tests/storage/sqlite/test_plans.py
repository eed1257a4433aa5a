"""Which statements SQLite runs, and by which index: it has no statistics to choose one by."""

from __future__ import annotations

import pytest

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.model import DrawerFilter, NewDrawer
from mempalace_mcp.storage.queries import Names, condition_of, conditions_by_room
from tests.storage.drawer_support import cabinet, place, whole
from tests.storage.graph_support import day, fresh_graph
from tests.storage.support import add_wing, plan, traced


def test_a_fact_is_looked_up_in_one_statement() -> None:
    """Each statement costs more than what it does: several changes of the thread that runs."""
    with fresh_graph() as graph:
        graph.add("Ada", "knows", "Bob")
        with traced(graph.connection) as statements:
            graph.add("Bob", "knows", "Cleo")
    assert sum("SELECT" in statement and "key = " in statement for statement in statements) == 1


def test_neither_a_write_nor_a_question_reads_a_whole_table() -> None:
    with fresh_graph() as graph:
        graph.add("Ada", "knows", "Bob", day(0))
        with traced(graph.connection) as statements:
            graph.add("Ada", "knows", "Eve", day(0))
            graph.supersede("Ada", "knows", "Eve", "Bob", day(1))
            graph.invalidate("Ada", "knows", "Bob", day(2))
            graph.query("Ada", depth=3)
            graph.query("Ada", as_of=day(1), known_at=day(1), depth=3)
            graph.store.timeline(graph.connection, "Ada", 10, None)
        plans = [
            (detail, statement)
            for statement in statements
            if " facts" in statement or " entities" in statement
            for detail in plan(graph.connection, statement)
        ]
        assert len(plans) > 50
        assert [each for each in plans if each[0].startswith(("SCAN facts", "SCAN entities", "SCAN subjects"))] == []
        of_a_triple = [detail for detail, statement in plans if "facts.object = " in statement and " facts " in detail]
        assert of_a_triple
        assert all("facts_by_triple (subject=? AND predicate=? AND object=?)" in detail for detail in of_a_triple)


PLANS = [
    (DrawerFilter(), "drawers_by_when"),
    (DrawerFilter(since=1), "drawers_by_when"),
    (DrawerFilter(wing="one"), "drawers_by_wing"),
    (DrawerFilter(wing="one", since=1, before=9), "drawers_by_wing"),
    (DrawerFilter(wing="one", within=("one",)), "drawers_by_wing"),
    (DrawerFilter(room="a"), "drawers_by_room"),
    (DrawerFilter(source_file="x"), "drawers_by_source"),
    (DrawerFilter(source_file="x", since=1), "drawers_by_source"),
]


@pytest.mark.parametrize(("filter", "index"), PLANS, ids=str)
def test_listings_and_counts_follow_one_index_and_sort_nothing(filter: DrawerFilter, index: str) -> None:
    with cabinet() as palace:
        palace.write(
            lambda tx: palace.drawers.file(tx, NewDrawer(place("One", "A"), "text", source_file="x"), whole("text"))
        )
        (condition,) = conditions_by_room(palace.connection, filter)
        listed = plan(
            palace.connection,
            f"SELECT d.when_at, d.id FROM {condition.source} AND (d.when_at, d.id) < (:after, 1)"
            " ORDER BY d.when_at DESC, d.id DESC LIMIT 3",
            condition.values | {"after": 9},
        )
        every = condition_of(filter, palace.connection.dialect)
        counted = plan(palace.connection, f"SELECT count(*) FROM {every.source}", every.values)
    for found in (listed, counted):
        steps = " / ".join(found)
        assert f"INDEX {index} (" in steps
        assert "TEMP B-TREE" not in steps


def test_long_lists_are_not_sorted_as_a_whole() -> None:
    with fresh_graph() as graph:
        with traced(graph.connection) as statements:
            Names().entities(graph.connection, "a", 100)
        steps = [step for statement in statements for step in plan(graph.connection, statement)]
    assert any("SEARCH entities" in step and "key>?" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


def test_the_backlog_is_read_by_indexes() -> None:
    with cabinet() as palace:
        statement = (
            "SELECT c.id FROM vectors v CROSS JOIN chunks c ON c.id = v.chunk WHERE v.chunk <= 9"
            " AND NOT EXISTS (SELECT 1 FROM token_vectors t WHERE t.chunk = v.chunk) ORDER BY v.chunk DESC LIMIT 3"
        )
        steps = plan(palace.connection, statement)
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in steps), steps


def test_parts_that_begin_at_one_place_have_one_savepoint() -> None:
    """Each statement costs more than what it does: several changes of the thread that runs."""
    with fresh_graph() as graph, graph.unit() as tx, traced(graph.connection) as statements:
        for _ in range(2):
            with pytest.raises(NotFound), tx.savepoint():
                raise NotFound("nothing")
        with tx.savepoint(), tx.savepoint():
            add_wing("kept")(tx)
    assert len([statement for statement in statements if statement.startswith("SAVEPOINT")]) == 1
