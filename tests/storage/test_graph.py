"""Writing facts: what is stored, what is refused, and what stays known of what was corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import Conflict, InvalidArgument, NotFound, PalaceError
from mempalace_mcp.core.model import Fact
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.queries import Names
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.graph_support import Graph, day, file_drawer, fresh_graph, named, new_fact
from tests.storage.support import fresh_database, soon

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture
def graph() -> Iterator[Graph]:
    with fresh_graph() as graph:
        yield graph


def interval(fact: Fact) -> tuple[int | None, int | None]:
    return fact.valid_from, fact.valid_to


def refused(graph: Graph, call: Callable[[], object], kind: type[PalaceError], argument: str) -> PalaceError:
    """The error of a call that must be refused and must leave no trace."""
    before = graph.content()
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert caught.value.argument == argument
    assert caught.value.hint
    assert graph.content() == before
    return caught.value


class TestAdding:
    def test_a_fact_is_stored_as_given(self, graph: Graph) -> None:
        file_drawer(graph, "d_1")
        graph.now = day(3)
        fact = graph.add("Ada", "works at", " Acme\tLtd ", day(1), day(9), 0.5, "d_1").fact
        assert fact.fact_id.startswith("f_")
        assert (fact.subject, fact.predicate, fact.object) == ("Ada", "works at", " Acme\tLtd ")
        assert (interval(fact), fact.recorded_at, fact.retracted_at) == ((day(1), day(9)), day(3), None)
        assert (fact.confidence, fact.source_drawer_id) == (0.5, "d_1")
        assert graph.query("ada").facts == [fact]

    def test_the_identical_fact_is_returned_and_nothing_is_written(self, graph: Graph) -> None:
        first = graph.add("Ada", "works at", "Acme", day(1), day(9))
        before = graph.content()
        again = graph.add("ADA", "Works  At", "Acme", day(1), day(9))
        assert (first.created, again.created, again.fact) == (True, False, first.fact)
        assert graph.content() == before

    def test_the_identical_unbounded_fact_is_recognised(self, graph: Graph) -> None:
        first = graph.add("Ada", "works at", "Acme")
        assert graph.add("Ada", "works at", "Acme").fact == first.fact
        assert graph.query("Ada").total == 1

    def test_objects_compare_exactly(self, graph: Graph) -> None:
        objects = ["README.md", "readme.md", "readme.md ", "read me.md", "Caf\u00e9", "Cafe\u0301"]
        assert all(graph.add("repository", "contains", object).created for object in objects)
        assert sorted(graph.objects("repository")) == sorted(objects)

    def test_a_historical_interval_is_kept_beside_the_open_one(self, graph: Graph) -> None:
        now = graph.add("Ada", "lives in", "Turin", day(10)).fact
        before = graph.add("Ada", "lives in", "Turin", day(1), day(5))
        assert before.created
        assert graph.query("Ada", as_of=day(11)).facts == [now]
        assert graph.query("Ada", as_of=day(4)).facts == [before.fact]
        assert [graph.objects("Ada", as_of=day(instant)) for instant in (2, 7, 12)] == [["Turin"], [], ["Turin"]]

    @pytest.mark.parametrize("valid_to", [day(5), day(5) - 1, day(1)])
    def test_an_empty_or_reversed_interval_is_refused(self, graph: Graph, valid_to: int) -> None:
        refused(graph, lambda: graph.add("Ada", "knows", "Bob", day(5), valid_to), InvalidArgument, "valid_to")

    def test_an_interval_of_one_microsecond_is_accepted(self, graph: Graph) -> None:
        graph.add("Ada", "knows", "Bob", day(5), day(5) + 1)
        assert [graph.objects("Ada", as_of=day(5) + step) for step in (-1, 0, 1)] == [[], ["Bob"], []]

    @pytest.mark.parametrize("confidence", [-0.01, 1.01, float("nan"), float("inf")])
    def test_a_confidence_outside_of_zero_to_one_is_refused(self, graph: Graph, confidence: float) -> None:
        refused(graph, lambda: graph.add("Ada", "knows", "Bob", None, None, confidence), InvalidArgument, "confidence")

    @pytest.mark.parametrize("confidence", [0, 1, 0.25])
    def test_a_confidence_is_kept(self, graph: Graph, confidence: float) -> None:
        graph.add("Ada", "knows", "Bob", confidence=confidence)
        assert graph.query("Ada").facts[0].confidence == confidence

    def test_the_source_must_be_a_live_drawer(self, graph: Graph) -> None:
        file_drawer(graph, "d_1")

        def add() -> object:
            return graph.add("Ada", "knows", "Bob", source_drawer_id="d_1")

        with graph.unit() as tx:
            tx.connection.execute("UPDATE drawers SET deleted_at = ?", (tx.stamp.instant,))
        refused(graph, add, InvalidArgument, "source_drawer_id")
        with graph.unit() as tx:
            tx.connection.execute("UPDATE drawers SET deleted_at = NULL")
        add()
        refused(
            graph, lambda: graph.add("Ada", "knows", "Eve", source_drawer_id="d_2"), InvalidArgument, "source_drawer_id"
        )

    def test_the_source_stays_known_when_its_drawer_is_purged(self, graph: Graph) -> None:
        file_drawer(graph, "d_1")
        fact = graph.add("Ada", "knows", "Bob", source_drawer_id="d_1").fact
        graph.connection.execute("DELETE FROM drawers")
        assert graph.query("Ada").facts == [fact]

    def test_an_object_too_long_for_a_name_is_kept_verbatim(self, graph: Graph) -> None:
        said = "so  it goes\n" * 300
        graph.add("Ada", "said", said)
        assert graph.objects("Ada") == [said]
        assert Names().entities(graph.connection, "", 10).values == ["Ada"]

    def test_names_are_shown_as_first_written(self, graph: Graph) -> None:
        graph.add("Ada", "Works At", "ACME")
        fact = graph.add("ada", "works   at", "other").fact
        assert (fact.subject, fact.predicate) == ("Ada", "Works At")
        assert graph.add("acme", "is", "old").fact.subject == "ACME"

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("Caf\u00e9", "cafe\u0301", True),
            ("Stra\u00dfe", "STRASSE", True),
            ("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3", True),
            ("new\u00a0 york", " New York ", True),
            ("\u0130stanbul", "i\u0307stanbul", True),
            ("\u0131rmak", "irmak", False),
            ("my-project", "my_project", False),
        ],
    )
    def test_names_compare_by_key(self, graph: Graph, one: str, other: str, same: bool) -> None:
        first = graph.add(one, one, "x").fact
        second = graph.add(other, other, "x")
        assert second.created is not same
        assert (second.fact == first) is same


class TestInvalidating:
    def test_the_fact_ends_and_the_old_belief_stays_known(self, graph: Graph) -> None:
        graph.now = day(1)
        fact = graph.add("Ada", "works at", "Acme", day(0), confidence=0.9).fact
        graph.now = day(120)
        ended = graph.invalidate("ADA", "works  AT", "Acme", day(60))
        assert (ended.fact_id, interval(ended)) == (fact.fact_id, (day(0), day(60)))
        assert (ended.recorded_at, ended.retracted_at, ended.confidence) == (day(120), None, 0.9)
        assert graph.query("Ada").facts == [ended]
        (then,) = graph.query("Ada", known_at=day(119)).facts
        assert (then.fact_id, interval(then), then.retracted_at) == (fact.fact_id, (day(0), None), day(120))
        assert graph.objects("Ada", as_of=day(90), known_at=day(119)) == ["Acme"]
        assert graph.objects("Ada", as_of=day(90)) == []

    def test_belief_changes_at_the_very_instant_of_the_correction(self, graph: Graph) -> None:
        graph.now = day(1)
        graph.add("Ada", "works at", "Acme")
        graph.now = day(2)
        graph.invalidate("Ada", "works at", "Acme")
        answers = [graph.query("Ada", known_at=instant).facts for instant in (day(1) - 1, day(1), day(2) - 1, day(2))]
        assert [[fact.valid_to for fact in facts] for facts in answers] == [[], [None], [None], [day(2)]]

    def test_the_end_is_now_by_default(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        graph.now = day(4)
        ended = graph.invalidate("Ada", "works at", "Acme")
        assert ended.valid_to == ended.recorded_at == day(4)
        assert graph.objects("Ada", as_of=day(4)) == []
        assert graph.objects("Ada", as_of=day(4) - 1) == ["Acme"]

    def test_what_just_ended_does_not_hold_although_the_clock_was_set_back(self, graph: Graph) -> None:
        graph.now = day(9)
        graph.add("Ada", "works at", "Acme")
        graph.now = day(2)
        ended = graph.invalidate("Ada", "works at", "Acme")
        assert ended.recorded_at == day(9) + 1
        assert not ended.holds_at(graph.query("Ada").at)
        assert graph.store.statistics(graph.connection, graph.now).current == 0
        assert graph.store.recent(graph.connection, graph.now, 10) == []

    def test_an_end_to_come_may_be_brought_forward(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0), day(90))
        assert interval(graph.invalidate("Ada", "works at", "Acme", day(30))) == (day(0), day(30))

    def test_nothing_to_end_is_an_error_that_says_what_there_is(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        graph.add("Ada", "works at", "Initech")
        error = refused(graph, lambda: graph.invalidate("Ada", "works at", "acme"), NotFound, "object")
        assert error.hint is not None
        assert "'Acme'" in error.hint
        assert "'Initech'" in error.hint
        refused(graph, lambda: graph.invalidate("Ada", "lives in", "Turin"), NotFound, "object")
        refused(graph, lambda: graph.invalidate("Eve", "works at", "Acme"), NotFound, "object")

    def test_the_hint_is_bounded(self, graph: Graph) -> None:
        for number in range(30):
            graph.add("Ada", "read", f"book {number}")
        error = refused(graph, lambda: graph.invalidate("Ada", "read", "nothing"), NotFound, "object")
        assert error.hint is not None
        assert error.hint.count("'book") == 5

    def test_what_ended_before_is_a_conflict(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0), day(9))
        for ended in (day(9), day(50)):
            error = refused(graph, lambda at=ended: graph.invalidate("Ada", "works at", "Acme", at), Conflict, "ended")  # type: ignore[misc]
            assert "2026-01-10" in error.message

    def test_what_was_ended_twice_is_a_conflict(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        graph.invalidate("Ada", "works at", "Acme", day(1))
        graph.now = day(2)
        refused(graph, lambda: graph.invalidate("Ada", "works at", "Acme"), Conflict, "ended")

    @pytest.mark.parametrize("ended", [day(5), day(5) - 1, day(1)])
    def test_an_end_not_after_the_beginning_is_refused(self, graph: Graph, ended: int) -> None:
        graph.add("Ada", "works at", "Acme", day(5))
        refused(graph, lambda: graph.invalidate("Ada", "works at", "Acme", ended), InvalidArgument, "ended")

    def test_of_several_intervals_the_one_that_covers_the_end_is_chosen(self, graph: Graph) -> None:
        graph.add("Ada", "lives in", "Turin", day(0), day(9))
        graph.add("Ada", "lives in", "Turin", day(20), day(29))
        graph.add("Ada", "lives in", "Turin", day(40))
        assert interval(graph.invalidate("Ada", "lives in", "Turin", day(25))) == (day(20), day(25))
        believed = sorted(interval(fact) for fact in graph.query("Ada").facts if fact.valid_to)
        assert believed == [(day(0), day(9)), (day(20), day(25))]
        refused(graph, lambda: graph.invalidate("Ada", "lives in", "Turin", day(15)), Conflict, "ended")

    def test_overlapping_intervals_end_together(self, graph: Graph) -> None:
        graph.add("Ada", "lives in", "Turin", day(5))
        graph.add("Ada", "lives in", "Turin")
        graph.add("Ada", "lives in", "Turin", day(99))
        ended = graph.invalidate("Ada", "lives in", "Turin", day(10))
        assert interval(ended) == (None, day(10))
        assert graph.objects("Ada", as_of=day(50)) == []
        assert graph.objects("Ada", as_of=day(99)) == ["Turin"]
        assert graph.query("Ada").total == 3

    def test_a_fact_that_becomes_equal_to_another_is_absorbed(self, graph: Graph) -> None:
        kept = graph.add("Ada", "lives in", "Turin", day(0), day(5)).fact
        graph.add("Ada", "lives in", "Turin", day(0))
        graph.now = day(8)
        assert graph.invalidate("Ada", "lives in", "Turin", day(5)) == kept
        assert graph.query("Ada").facts == [kept]
        assert graph.query("Ada", known_at=day(8) - 1).total == 2

    def test_overlapping_intervals_that_end_alike_become_one(self, graph: Graph) -> None:
        for valid_to in (day(9), None, day(5)):
            graph.add("Ada", "lives in", "Turin", day(0), valid_to)
        graph.now = day(8)
        ended = graph.invalidate("Ada", "lives in", "Turin", day(4))
        assert graph.query("Ada").facts == [ended]
        assert interval(ended) == (day(0), day(4))
        assert graph.query("Ada", known_at=day(8) - 1).total == 3

    def test_what_was_recorded_by_the_same_unit_is_replaced(self, graph: Graph) -> None:
        with graph.unit() as tx:
            added = graph.store.add(tx, new_fact("Ada", "works at", "Acme", day(-9))).fact
            ended = graph.store.invalidate(tx, named("Ada"), named("works at"), "Acme", None)
            assert tx.stamp.instant == added.recorded_at == ended.recorded_at
        assert ended.fact_id == added.fact_id
        assert graph.query("Ada").facts == graph.query("Ada", known_at=ended.recorded_at).facts == [ended]
        assert graph.query("Ada", known_at=ended.recorded_at - 1).facts == []


class TestSuperseding:
    def test_one_ends_where_the_other_begins(self, graph: Graph) -> None:
        old = graph.add("Ada", "works at", "Acme", day(0)).fact
        graph.now = day(60)
        ended, begun = graph.supersede("Ada", "works at", "Acme", "Initech", day(30), confidence=0.7)
        assert (ended.fact_id, interval(ended), ended.object) == (old.fact_id, (day(0), day(30)), "Acme")
        assert (interval(begun), begun.object, begun.confidence) == ((day(30), None), "Initech", 0.7)
        assert ended.recorded_at == begun.recorded_at == day(60)
        assert [graph.objects("Ada", as_of=instant) for instant in (day(30) - 1, day(30))] == [["Acme"], ["Initech"]]
        assert graph.objects("Ada", known_at=day(59)) == ["Acme"]

    def test_it_happens_now_by_default(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        graph.now = day(7)
        ended, begun = graph.supersede("Ada", "works at", "Acme", "Initech")
        assert (ended.valid_to, begun.valid_from) == (day(7), day(7))

    def test_the_successor_holds_as_long_as_the_old_one_would_have(self, graph: Graph) -> None:
        graph.add("Ada", "rents", "flat 1", day(0), day(90))
        graph.add("Ada", "rents", "flat 1", day(5), day(80))
        _, begun = graph.supersede("Ada", "rents", "flat 1", "flat 2", day(30))
        assert interval(begun) == (day(30), day(90))

    def test_another_spelling_of_the_object_is_another_object(self, graph: Graph) -> None:
        graph.add("repository", "contains", "README.md", day(0))
        ended, begun = graph.supersede("repository", "contains", "README.md", "readme.md", day(3))
        assert (ended.object, begun.object) == ("README.md", "readme.md")

    def test_a_missing_old_fact_is_an_error_and_nothing_is_written(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        error = refused(
            graph, lambda: graph.supersede("Ada", "works at", "NeverWas", "Initech"), NotFound, "old_object"
        )
        assert error.hint is not None
        assert "'Acme'" in error.hint
        assert graph.objects("Ada") == ["Acme"]

    def test_the_same_object_is_refused(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme")
        refused(graph, lambda: graph.supersede("Ada", "works at", "Acme", "Acme"), InvalidArgument, "new_object")

    def test_a_time_at_which_the_old_fact_does_not_hold_is_refused(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(5), day(9))
        for at, kind in ((day(5), InvalidArgument), (day(1), InvalidArgument), (day(9), Conflict)):
            refused(graph, lambda at=at: graph.supersede("Ada", "works at", "Acme", "Initech", at), kind, "at")  # type: ignore[misc]

    def test_a_wrong_successor_is_refused_and_the_old_fact_stays(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0))
        refused(
            graph,
            lambda: graph.supersede("Ada", "works at", "Acme", "Initech", day(3), confidence=2),
            InvalidArgument,
            "confidence",
        )

    def test_a_successor_that_is_believed_already_is_not_doubled(self, graph: Graph) -> None:
        graph.add("Ada", "works at", "Acme", day(0))
        known = graph.add("Ada", "works at", "Initech", day(30)).fact
        _, begun = graph.supersede("Ada", "works at", "Acme", "Initech", day(30))
        assert begun == known
        assert graph.query("Ada").total == 2

    def test_a_fact_added_in_the_same_unit_may_be_superseded(self, graph: Graph) -> None:
        with graph.unit() as tx:
            graph.store.add(tx, new_fact("Ada", "works at", "Acme", day(-9)))
            graph.store.supersede(
                tx, named("Ada"), named("works at"), "Acme", new_fact("Ada", "works at", "Initech"), None
            )
        assert graph.objects("Ada") == ["Initech", "Acme"]
        assert graph.connection.execute("SELECT count(*) FROM facts").fetchone() == (2,)


def test_facts_are_durable_and_a_refusal_in_a_group_harms_no_other(tmp_path: Path) -> None:
    store = GraphStore()

    def add(tx: Transaction) -> None:
        store.add(tx, new_fact("Ada", "knows", "Bob"))

    def fail(tx: Transaction) -> None:
        store.add(tx, new_fact("Ada", "knows", "Eve"))
        store.invalidate(tx, named("Ada"), named("knows"), "Nobody", None)

    with fresh_database(tmp_path) as database:
        database.write(add, soon())
        with pytest.raises(NotFound):
            database.write(fail, soon())
    with fresh_database(tmp_path) as database, database.read() as connection:
        assert [fact.object for fact in store.query(connection, "ada").facts] == ["Bob"]
        assert Names().entities(connection, "", 10).values == ["Ada", "Bob"]


class TestRetract:
    def test_what_was_retracted_is_believed_before_and_never_after(self, graph: Graph) -> None:
        graph.now = day(1)
        fact = graph.add("Ada", "works at", "Acme", day(0), day(9)).fact
        graph.now = day(2)
        retracted = graph.retract("ADA", "works  at", "Acme")
        assert retracted == replace(fact, retracted_at=day(2))
        for instant in (None, day(0), day(5), day(20)):
            assert graph.query("Ada", as_of=instant).facts == []
        assert graph.query("Ada", known_at=day(2) - 1).facts == [retracted]
        assert graph.query("Ada", known_at=day(2)).facts == []

    @pytest.mark.parametrize(
        "interval", [(None, None), (day(-9), day(-8)), (day(8), None)], ids=["ever", "past", "future"]
    )
    def test_whether_it_holds_or_not(self, graph: Graph, interval: tuple[int | None, int | None]) -> None:
        graph.add("Ada", "works at", "Acme", *interval)
        graph.retract("Ada", "works at", "Acme")
        assert graph.query("Ada").total == 0

    def test_one_of_several(self, graph: Graph) -> None:
        kept = graph.add("Ada", "works at", "Acme", day(0), day(1)).fact
        wrong = graph.add("Ada", "works at", "Acme", day(5)).fact
        before = graph.content()
        with pytest.raises(InvalidArgument) as caught:
            graph.retract("Ada", "works at", "Acme")
        assert caught.value.argument == "fact_id"
        for object, fact_id in (("Acme", "f_none"), ("acme", wrong.fact_id)):
            with pytest.raises(NotFound):
                graph.retract("Ada", "works at", object, fact_id)
        assert graph.content() == before
        graph.retract("Ada", "works at", "Acme", wrong.fact_id)
        assert graph.query("Ada").facts == [kept]

    def test_what_the_same_unit_recorded_leaves_nothing(self, graph: Graph) -> None:
        with graph.unit() as tx:
            graph.store.add(tx, new_fact("Ada", "works at", "Acme"))
            graph.store.retract(tx, named("Ada"), named("works at"), "Acme")
        assert [row for row in graph.content() if "Acme" in row and len(row) > 5] == []
        assert graph.query("Ada", known_at=day(99)).total == 0

    def test_it_can_be_told_again(self, graph: Graph) -> None:
        first = graph.add("Ada", "works at", "Acme").fact
        graph.retract("Ada", "works at", "Acme")
        again = graph.add("Ada", "works at", "Acme")
        assert again.created
        assert again.fact.fact_id != first.fact_id
