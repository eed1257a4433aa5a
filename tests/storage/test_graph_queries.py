"""Questions to the graph: about an entity, its timeline page by page, what is new, and its sizes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise

import pytest

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Direction, Fact
from mempalace_mcp.storage import graph_queries
from tests.storage.graph_support import Graph, day, fresh_graph, new_fact

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture
def graph() -> Iterator[Graph]:
    with fresh_graph() as graph:
        yield graph


def hops(graph: Graph, entity: str, depth: int, direction: Direction = Direction.BOTH) -> dict[str, int]:
    answer = graph.query(entity, direction=direction, depth=depth)
    return {f"{fact.subject}-{fact.object}": hop for fact, hop in zip(answer.facts, answer.depths, strict=True)}


def add_chain(graph: Graph, *names: str) -> None:
    for one, other in pairwise(names):
        graph.add(one, "leads to", other)


class TestFacts:
    def test_the_current_come_first_then_the_future_then_the_ended(self, graph: Graph) -> None:
        facts = {
            "always": (None, None),
            "since day 1": (day(1), None),
            "since day 5": (day(5), day(50)),
            "ended on day 3": (None, day(3)),
            "ended on day 9": (day(2), day(9)),
            "from day 30": (day(30), None),
            "from day 20": (day(20), day(40)),
        }
        for object, (valid_from, valid_to) in facts.items():
            graph.add("Ada", "is", object, valid_from, valid_to)
        graph.now = day(10)
        assert graph.objects("Ada") == [
            "since day 5", "since day 1", "always", "from day 20", "from day 30", "ended on day 9", "ended on day 3",
        ]  # fmt: skip
        assert graph.query("Ada").at == day(10)
        assert graph.objects("Ada", as_of=day(2)) == ["ended on day 9", "since day 1", "ended on day 3", "always"]

    def test_among_equals_what_was_recorded_last_comes_first(self, graph: Graph) -> None:
        for object in ("one", "two", "three"):
            graph.add("Ada", "says", object)
        assert graph.objects("Ada") == ["three", "two", "one"]

    def test_a_question_about_the_past_is_answered_in_the_order_of_then(self, graph: Graph) -> None:
        graph.add("Ada", "is", "student", None, day(5))
        graph.add("Ada", "is", "teacher", day(5))
        graph.now = day(9)
        assert graph.objects("Ada") == ["teacher", "student"]
        assert graph.objects("Ada", known_at=day(2)) == ["student", "teacher"]
        assert graph.query("Ada", known_at=day(2)).at == day(2)
        assert graph.query("Ada", as_of=day(1), known_at=day(2)).at == day(1)

    def test_valid_time_is_half_open(self, graph: Graph) -> None:
        graph.add("Ada", "is", "away", day(1), day(2))
        instants = (day(1) - 1, day(1), day(2) - 1, day(2))
        assert [graph.query("Ada", as_of=instant).total for instant in instants] == [0, 1, 1, 0]

    def test_the_total_counts_what_the_limit_hides(self, graph: Graph) -> None:
        for number in range(7):
            graph.add("Ada", "read", f"book {number}", day(number))
        graph.now = day(9)
        answer = graph.query("Ada", limit=3)
        assert [fact.object for fact in answer.facts] == ["book 6", "book 5", "book 4"]
        assert (answer.total, answer.truncated, len(answer.depths)) == (7, False, 3)

    def test_a_fact_about_itself_is_given_once(self, graph: Graph) -> None:
        graph.add("Ada", "knows", "ADA")
        for direction in Direction:
            answer = graph.query("Ada", direction=direction, depth=3)
            assert (answer.total, answer.depths) == (1, [1])


class TestDirection:
    def test_an_object_is_the_entity_of_its_key(self, graph: Graph) -> None:
        graph.add("repository", "contains", "README.md")
        graph.add("archive", "contains", " readme.MD")
        graph.add("Readme.md", "describes", "installation")
        incoming = graph.query("readme.md", direction=Direction.INCOMING)
        assert {(fact.subject, fact.object) for fact in incoming.facts} == {
            ("repository", "README.md"),
            ("archive", " readme.MD"),
        }
        outgoing = graph.query("readme.md", direction=Direction.OUTGOING)
        assert [fact.object for fact in outgoing.facts] == ["installation"]
        assert graph.query("readme.md").total == 3

    def test_the_walk_keeps_its_direction(self, graph: Graph) -> None:
        add_chain(graph, "a", "b", "c", "d")
        assert hops(graph, "b", 5, Direction.OUTGOING) == {"b-c": 1, "c-d": 2}
        assert hops(graph, "c", 5, Direction.INCOMING) == {"b-c": 1, "a-b": 2}
        assert hops(graph, "c", 5, Direction.BOTH) == {"b-c": 1, "c-d": 1, "a-b": 2}


class TestDepth:
    def test_each_hop_adds_the_facts_of_the_entities_before(self, graph: Graph) -> None:
        add_chain(graph, "a", "b", "c", "d", "e", "f", "g")
        for depth in range(1, 6):
            answer = graph.query("a", depth=depth)
            assert answer.depths == list(range(1, depth + 1))
            assert answer.total == depth

    def test_a_cycle_ends_and_each_fact_has_its_smallest_hop(self, graph: Graph) -> None:
        add_chain(graph, "a", "b", "c", "d", "a")
        assert hops(graph, "a", 5) == {"a-b": 1, "d-a": 1, "b-c": 2, "c-d": 2}
        assert hops(graph, "a", 5, Direction.OUTGOING) == {"a-b": 1, "b-c": 2, "c-d": 3, "d-a": 4}

    def test_near_facts_come_first_even_if_they_ended(self, graph: Graph) -> None:
        graph.add("a", "knew", "b", None, day(-5))
        graph.add("b", "knows", "c")
        assert graph.objects("a") == ["b"]
        assert [fact.object for fact in graph.query("a", depth=2).facts] == ["b", "c"]

    def test_the_walk_passes_only_facts_that_the_question_sees(self, graph: Graph) -> None:
        graph.add("a", "knows", "b", day(0), day(5))
        graph.add("b", "knows", "c")
        assert graph.query("a", depth=2).total == 2
        assert graph.query("a", as_of=day(4), depth=2).total == 2
        assert graph.query("a", as_of=day(5), depth=2).total == 0

    def test_the_walk_passes_only_what_was_believed(self, graph: Graph) -> None:
        graph.now = day(1)
        graph.add("b", "knows", "c")
        graph.now = day(2)
        graph.add("a", "knows", "b")
        assert graph.query("a", known_at=day(1), depth=2).total == 0
        assert graph.query("a", known_at=day(2), depth=2).total == 2

    def test_no_way_leads_through_a_text(self, graph: Graph) -> None:
        text = "long " * 50
        graph.add("a", "said", text)
        graph.add("b", "said", text)
        assert graph.query("a", depth=5).total == 1

    def test_the_entities_visited_are_bounded_and_the_answer_says_so(self, graph: Graph) -> None:
        with graph.unit() as tx:
            for number in range(graph_queries.MAX_ENTITIES + 5):
                graph.store.add(tx, new_fact("hub", "has", f"leaf {number}", None, None if number % 2 else day(-1)))
                graph.store.add(tx, new_fact(f"leaf {number}", "weighs", f"{number} grams"))
        near = graph.query("hub", depth=1)
        assert (near.total, near.truncated) == (graph_queries.MAX_ENTITIES + 5, False)
        far = graph.query("hub", depth=2, limit=3000)
        assert far.truncated
        assert far.total == near.total + graph_queries.MAX_ENTITIES - 1
        visited = {fact.subject for fact in far.facts} - {"hub"}
        assert {f"leaf {number}" for number in range(1, graph_queries.MAX_ENTITIES + 5, 2)} <= visited

    def test_as_many_entities_as_allowed_are_not_too_many(self, graph: Graph) -> None:
        with graph.unit() as tx:
            for number in range(graph_queries.MAX_ENTITIES - 1):
                graph.store.add(tx, new_fact("hub", "has", f"leaf {number}"))
        answer = graph.query("hub", depth=5)
        assert (answer.total, answer.truncated) == (graph_queries.MAX_ENTITIES - 1, False)


class TestNames:
    @pytest.mark.parametrize("asked", ["stra\u00dfe 1", "STRASSE  1", " Strasse 1 "])
    def test_the_answer_says_which_entity_was_understood(self, graph: Graph, asked: str) -> None:
        graph.add("Stra\u00dfe 1", "is in", "Berlin")
        resolved = graph.query(asked).resolved
        assert (resolved.asked, resolved.entity, resolved.suggestions) == (asked, "Stra\u00dfe 1", ())

    def test_composed_and_decomposed_names_are_one(self, graph: Graph) -> None:
        graph.add("Caf\u00e9", "is in", "Rome")
        graph.add("Cafe\u0301", "serves", "tea")
        assert graph.query("CAFE\u0301").total == 2

    def test_an_entity_known_only_later_has_no_facts_yet(self, graph: Graph) -> None:
        graph.now = day(5)
        graph.add("Ada", "knows", "Bob")
        answer = graph.query("Ada", known_at=day(4))
        assert (answer.resolved.entity, answer.total) == ("Ada", 0)

    def test_an_unknown_entity_is_an_empty_answer(self, graph: Graph) -> None:
        answer = graph.query("nobody", depth=3)
        assert (answer.facts, answer.total, answer.truncated) == ((), 0, False)
        assert (answer.resolved.entity, answer.resolved.suggestions) == (None, [])

    @pytest.mark.parametrize(
        ("asked", "meant"),
        [
            ("Ada", "Ada Lovelace"),
            ("lovelace", "Ada Lovelace"),
            ("Ada Lovelance", "Ada Lovelace"),
            ("my_project", "My-Project"),
            ("Postgres", "PostgreSQL"),
            ("postgersql", "PostgreSQL"),
            ("PostgreSQLs", "PostgreSQL"),
        ],
    )
    def test_names_like_it_are_suggested(self, graph: Graph, asked: str, meant: str) -> None:
        for name in ("Ada Lovelace", "My-Project", "PostgreSQL", "Zurich"):
            graph.add(name, "is", "known")
        assert graph.query(asked).resolved.suggestions[0] == meant
        assert "Zurich" not in graph.query(asked).resolved.suggestions

    def test_suggestions_are_at_most_five_and_found_among_many(self, graph: Graph) -> None:
        with graph.unit() as tx:
            for number in range(3000):
                graph.store.add(tx, new_fact(f"service {number}", "runs on", f"host {number}"))
        assert len(graph.query("service").resolved.suggestions) == 5
        assert "service 1234" in graph.query("service 1234x").resolved.suggestions

    @pytest.mark.parametrize("asked", ["", "  ", "a" * 129, "a\0b", "\ud800"])
    def test_what_cannot_be_a_name_is_refused(self, graph: Graph, asked: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            graph.query(asked)
        assert caught.value.argument == "entity"


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
