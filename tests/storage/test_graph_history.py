"""Any history of writes against a plain model: a log of the believed sets, of which each question reads one.

The model knows nothing of versions: to know what was believed when, it keeps every set. A unit of work holds several
writes, and one that is refused undoes all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.errors import Conflict, InvalidArgument, NotFound, PalaceError
from mempalace_mcp.core.model import Direction, Fact
from mempalace_mcp.core.text import name_key
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.graph_support import START, Graph, fresh_graph, named, new_fact

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]

Instant = int
Interval = tuple[Instant | None, Instant | None]
Triple = tuple[str, str, str]
Told = tuple[Triple, Interval]
Refusal = type[PalaceError]

SUBJECTS = ("Ada", "ADA", "Bob", "Eve")
OBJECTS = ("Bob", "bob", "ada ", "Eve")
HORIZON = 8
"""Valid times lie within this many microseconds of START, recorded times around them."""

instants = st.integers(START, START + HORIZON)
maybe_instants = st.none() | instants
beginnings = st.none() | st.integers(START - 2, START + HORIZON // 2)


@dataclass(frozen=True)
class Add:
    subject: str
    predicate: str
    object: str
    interval: Interval


@dataclass(frozen=True)
class Invalidate:
    subject: str
    predicate: str
    object: str
    ended: Instant | None


@dataclass(frozen=True)
class Supersede:
    subject: str
    predicate: str
    old: str
    new: str
    at: Instant | None


Write = Add | Invalidate | Supersede

subjects, predicates, objects = st.sampled_from(SUBJECTS), st.sampled_from(("knows", "Knows")), st.sampled_from(OBJECTS)
writes = st.one_of(
    st.builds(Add, subjects, predicates, objects, st.tuples(beginnings, st.none())),
    st.builds(Add, subjects, predicates, objects, st.tuples(beginnings, maybe_instants)),
    st.builds(Invalidate, subjects, predicates, objects, maybe_instants),
    st.builds(Supersede, subjects, predicates, objects, objects, maybe_instants),
)
units = st.tuples(st.integers(0, 3), st.lists(writes, min_size=1, max_size=2))
histories = st.lists(units, min_size=8, max_size=30)


class Refused(Exception):
    def __init__(self, kind: Refusal) -> None:
        self.kind = kind


def key(text: str) -> str:
    return name_key(" ".join(text.split()))


def begin(interval: Interval) -> float:
    return float("-inf") if interval[0] is None else interval[0]


def end(interval: Interval) -> float:
    return float("inf") if interval[1] is None else interval[1]


def holds(interval: Interval, instant: Instant) -> bool:
    return begin(interval) <= instant < end(interval)


def apply(told: frozenset[Told], write: Write, now: Instant) -> frozenset[Told]:
    """The set believed after a write, by the rules in prose."""
    if isinstance(write, Add):
        if begin(write.interval) >= end(write.interval):
            raise Refused(InvalidArgument)
        return told | {((key(write.subject), key(write.predicate), write.object), write.interval)}
    if isinstance(write, Invalidate):
        triple = (key(write.subject), key(write.predicate), write.object)
        return cut(told, triple, now if write.ended is None else write.ended)[0]
    if write.old == write.new:
        raise Refused(InvalidArgument)
    moment = now if write.at is None else write.at
    subject, predicate = key(write.subject), key(write.predicate)
    remaining, removed = cut(told, (subject, predicate, write.old), moment)
    return remaining | {((subject, predicate, write.new), (moment, max(removed, key=end)[1]))}


def cut(told: frozenset[Told], triple: Triple, moment: Instant) -> tuple[frozenset[Told], list[Interval]]:
    """The set in which the triple ends at the moment, and the intervals that it had there before."""
    intervals = [interval for other, interval in told if other == triple]
    covering = [interval for interval in intervals if holds(interval, moment)]
    if not intervals:
        raise Refused(NotFound)
    if any(begin(interval) == moment for interval in covering):
        raise Refused(InvalidArgument)
    if not covering:
        raise Refused(InvalidArgument if all(begin(interval) > moment for interval in intervals) else Conflict)
    ended = {(triple, (interval[0], moment)) for interval in covering}
    return told - {(triple, interval) for interval in covering} | ended, covering


def walk(told: frozenset[Told], entity: str, direction: Direction, depth: int) -> dict[Told, int]:
    """The smallest hop of every fact within reach, breadth first."""
    found: dict[Told, int] = {}
    distances = {entity: 0}
    queue = deque([entity])
    while queue:
        here = queue.popleft()
        if distances[here] == depth:
            continue
        for fact in told:
            (subject, _, object), _ = fact
            ends = ((subject, key(object), Direction.INCOMING), (key(object), subject, Direction.OUTGOING))
            for near, far, unwanted in ends:
                if near == here and direction is not unwanted:
                    found.setdefault(fact, distances[here] + 1)
                    if far not in distances:
                        distances[far] = distances[here] + 1
                        queue.append(far)
    return found


class Histories:
    """The store and the model, told the same, compared after every unit of work."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.log: list[tuple[Instant, frozenset[Told]]] = [(START, frozenset())]
        self.answers: list[tuple[Instant, list[list[Fact]]]] = []

    def believed(self, known_at: Instant) -> frozenset[Told]:
        return next((told for instant, told in reversed(self.log) if instant <= known_at), frozenset())

    def run(self, elapsed: int, written: Sequence[Write]) -> None:
        self.graph.now += elapsed
        (last,) = self.graph.connection.execute("SELECT recorded_at FROM state").fetchone()
        instant = max(self.graph.now, last + 1)
        told = self.log[-1][1]
        refusal: Refusal | None = None
        try:
            for write in written:
                told = apply(told, write, instant)
        except Refused as error:
            refusal = error.kind
        if refusal is not None:
            with pytest.raises(refusal) as caught, self.graph.unit() as tx:
                self.tell(tx, written)
            assert type(caught.value) is refusal
            return
        with self.graph.unit() as tx:
            self.tell(tx, written)
        if told != self.log[-1][1]:
            self.log.append((instant, told))
            self.answers.append((instant, self.present_answers(instant)))

    def tell(self, tx: Transaction, written: Sequence[Write]) -> None:
        store = self.graph.store
        for write in written:
            subject, predicate = named(write.subject), named(write.predicate)
            if isinstance(write, Add):
                store.add(tx, new_fact(write.subject, write.predicate, write.object, *write.interval))
            elif isinstance(write, Invalidate):
                store.invalidate(tx, subject, predicate, write.object, write.ended)
            else:
                new = new_fact("any", "any", write.new)
                store.supersede(tx, subject, predicate, write.old, new, write.at)

    def present_answers(self, instant: Instant) -> list[list[Fact]]:
        self.graph.now = max(self.graph.now, instant)
        return [list(self.graph.query(entity, depth=2).facts) for entity in SUBJECTS]


def as_told(fact: Fact) -> Told:
    return (key(fact.subject), key(fact.predicate), fact.object), (fact.valid_from, fact.valid_to)


@settings(max_examples=60, deadline=None)
@given(
    histories,
    st.lists(
        st.tuples(
            subjects,
            maybe_instants,
            st.none() | st.integers(START - 2, START + 60),
            st.sampled_from(list(Direction)),
            st.integers(1, 5),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_every_question_is_answered_as_by_the_model(
    history: list[tuple[int, list[Write]]],
    questions: list[tuple[str, Instant | None, Instant | None, Direction, int]],
) -> None:
    with fresh_graph() as graph:
        histories = Histories(graph)
        for elapsed, written in history:
            histories.run(elapsed, written)
        for entity, as_of, known_at, direction, depth in questions:
            told = histories.log[-1][1] if known_at is None else histories.believed(known_at)
            seen = frozenset(fact for fact in told if as_of is None or holds(fact[1], as_of))
            answer = graph.query(entity, as_of, known_at, direction, depth)
            found = [as_told(fact) for fact in answer.facts]
            expected = walk(seen, key(entity), direction, depth)
            assert dict(zip(found, answer.depths, strict=True)) == expected
            assert (len(found), answer.total, answer.truncated) == (len(expected), len(expected), False)
            assert list(answer.depths) == sorted(answer.depths)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_what_was_answered_once_is_answered_again_with_known_at(history: list[tuple[int, list[Write]]]) -> None:
    with fresh_graph() as graph:
        histories = Histories(graph)
        for elapsed, written in history:
            histories.run(elapsed, written)
        for instant, answers in histories.answers:
            for entity, then in zip(SUBJECTS, answers, strict=True):
                again = graph.query(entity, known_at=instant, depth=2).facts
                assert [replace(fact, retracted_at=None) for fact in again] == then


@settings(max_examples=60, deadline=None)
@given(histories)
def test_the_table_keeps_its_invariants(history: list[tuple[int, list[Write]]]) -> None:
    with fresh_graph() as graph:
        histories = Histories(graph)
        for elapsed, written in history:
            histories.run(elapsed, written)
        believed = histories.log[-1][1]
        page, _ = graph.store.timeline(graph.connection, None, 1000, None)
        assert sorted(map(repr, map(as_told, page.items))) == sorted(map(repr, believed))
        statistics = graph.store.statistics(graph.connection, graph.now)
        assert statistics.facts == page.total == len(believed)
        assert statistics.current + statistics.future + statistics.ended == statistics.facts
        overlaps = """
            SELECT count(*) FROM facts AS one JOIN facts AS other ON one.fact_id = other.fact_id AND one.id < other.id
            WHERE one.recorded_at < coalesce(other.retracted_at, 9e18)
              AND other.recorded_at < coalesce(one.retracted_at, 9e18)
        """
        assert graph.connection.execute(overlaps).fetchone() == (0,)
