"""The graph as a whole: its timeline page by page, what is new, and its sizes."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Fact
from mempalace_mcp.storage import graph_queries
from tests.storage.graph_support import Graph, day, fresh_graph, new_fact


@pytest.fixture
def graph() -> Iterator[Graph]:
    with fresh_graph() as graph:
        yield graph


def pages(graph: Graph, entity: str | None, limit: int) -> list[list[Fact]]:
    found = []
    cursor: str | None = None
    while True:
        page, _ = graph.store.timeline(graph.connection, entity, limit, cursor)
        found.append(list(page.items))
        cursor = page.next_cursor
        if cursor is None:
            return found


class TestTimeline:
    def test_facts_come_in_the_order_of_their_beginning_then_of_their_recording(self, graph: Graph) -> None:
        for object, valid_from in (("c", day(2)), ("a", None), ("d", day(2)), ("b", day(-400)), ("a2", None)):
            graph.add("Ada", "saw", object, valid_from)
        for limit in (1, 2, 3, 4, 5, 100):
            listed = pages(graph, None, limit)
            assert [fact.object for page in listed for fact in page] == ["a", "a2", "b", "c", "d"]
            assert len(listed) == -(-5 // limit)

    def test_facts_of_one_unit_of_work_are_paged_without_loss(self, graph: Graph) -> None:
        with graph.unit() as tx:
            for number in range(10):
                graph.store.add(tx, new_fact("Ada", "saw", f"{number}"))
        assert [fact.object for page in pages(graph, None, 3) for fact in page] == [str(number) for number in range(10)]

    def test_of_an_entity_both_its_own_facts_and_those_about_it(self, graph: Graph) -> None:
        graph.add("Ada", "knows", "Bob", day(3))
        graph.add("Eve", "knows", "ADA", day(1))
        graph.add("ada", "knows", "ada", day(2))
        graph.add("Bob", "knows", "Eve", day(0))
        page, resolved = graph.store.timeline(graph.connection, "ADA", 2, None)
        assert resolved is not None
        assert resolved.entity == "Ada"
        assert page.total == 3
        assert [fact.valid_from for page in pages(graph, "ada", 1) for fact in page] == [day(1), day(2), day(3)]

    def test_it_shows_what_is_believed_now(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0))
        ended = graph.invalidate("Ada", "works at", "Acme", day(3))
        page, resolved = graph.store.timeline(graph.connection, None, 10, None)
        assert (page.items, page.total, page.next_cursor, resolved) == ([ended], 1, None, None)

    def test_an_unknown_entity_has_an_empty_timeline_and_suggestions(self, graph: Graph) -> None:
        graph.add("Ada Lovelace", "is", "known")
        page, resolved = graph.store.timeline(graph.connection, "Ada", 10, None)
        assert (page.items, page.total, page.next_cursor) == ((), 0, None)
        assert resolved is not None
        assert (resolved.entity, resolved.suggestions) == (None, ["Ada Lovelace"])

    def test_an_empty_graph_has_an_empty_page(self, graph: Graph) -> None:
        page, _ = graph.store.timeline(graph.connection, None, 10, None)
        assert (page.items, page.total, page.next_cursor) == ([], 0, None)

    @pytest.mark.parametrize(
        "cursor",
        [
            "garbage", "", "=", "\u00e9", "[1,2,3]", "WzEsMl0",
            *(
                base64.urlsafe_b64encode(json.encode("utf-8")).decode()
                for json in (
                    "[1, 2]", "[1, 2, 3, 4]", "[1, 2, null]", "[1, 2, true]", "[1.0, 2, 3]", '{"a": 1}', "7", '"abc"',
                    f"[1, 2, {2**63}]", f"[1, 2, 1{'0' * 5000}]", "[" * 5000, "\u00e9",
                )
            ),
            base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        ],
    )  # fmt: skip
    def test_a_foreign_cursor_is_refused(self, graph: Graph, cursor: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            graph.store.timeline(graph.connection, None, 10, cursor)
        assert caught.value.argument == "cursor"

    def test_a_cursor_of_another_entity_is_refused(self, graph: Graph) -> None:
        for number in range(3):
            graph.add("Ada", "saw", f"{number}")
            graph.add("Bob", "saw", f"{number}")
        page, _ = graph.store.timeline(graph.connection, "Ada", 2, None)
        rest, _ = graph.store.timeline(graph.connection, "ADA", 2, page.next_cursor)
        assert [fact.object for fact in rest.items] == ["2"]
        for other in ("Bob", None):
            with pytest.raises(InvalidArgument, match="other filters"):
                graph.store.timeline(graph.connection, other, 2, page.next_cursor)


def test_recent_are_the_facts_that_hold_now_last_recorded_first(graph: Graph) -> None:
    graph.add("Ada", "is", "gone", None, day(1))
    graph.add("Ada", "is", "here", day(1))
    graph.add("Ada", "is", "coming", day(9))
    graph.add("Ada", "is", "also here")
    graph.add("Ada", "is", "wrong")
    graph.now = day(3)
    graph.invalidate("Ada", "is", "wrong")
    recent = graph.store.recent(graph.connection, day(3), 10)
    assert [fact.object for fact in recent] == ["also here", "here"]
    assert graph.store.recent(graph.connection, day(3), 1) == recent[:1]


class TestStatistics:
    def test_an_empty_graph_has_none(self, graph: Graph) -> None:
        statistics = graph.store.statistics(graph.connection, day(0))
        assert (statistics.entities, statistics.facts, statistics.current, statistics.predicates) == (0, 0, 0, {})
        assert (statistics.future, statistics.ended, statistics.predicate_count) == (0, 0, 0)

    def test_they_count_what_is_believed_now(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0))
        graph.add("Ada", "Works At", "Initech", day(20))
        graph.add("Ada", "knows", "Bob", day(0), day(10))
        graph.add("Bob", "works  at", "Acme")
        graph.invalidate("Ada", "works at", "Acme", day(5))
        statistics = graph.store.statistics(graph.connection, day(10))
        assert (statistics.entities, statistics.facts) == (4, 4)
        assert (statistics.current, statistics.future, statistics.ended) == (1, 1, 2)
        assert list(statistics.predicates.items()) == [("works at", 3), ("knows", 1)]
        assert statistics.predicate_count == 2

    def test_the_predicates_shown_are_bounded(self, graph: Graph) -> None:
        with graph.unit() as tx:
            for number in range(graph_queries.PREDICATES_SHOWN + 7):
                graph.store.add(tx, new_fact("Ada", f"predicate {number:03}", "x"))
            graph.store.add(tx, new_fact("Bob", "predicate 056", "x"))
        statistics = graph.store.statistics(graph.connection, day(0))
        assert len(statistics.predicates) == graph_queries.PREDICATES_SHOWN
        assert statistics.predicate_count == graph_queries.PREDICATES_SHOWN + 7
        assert list(statistics.predicates)[:2] == ["predicate 056", "predicate 000"]
