"""The bitemporal knowledge graph: what is true when, and when the palace knew it. Only this module writes facts.

A fact is a sentence of three parts, *subject predicate object*, with two times of its own:

- **Valid time** `[valid_from, valid_to)` is about the world: from when until when the sentence is true. The caller
  says so; an end that is None is open.
- **Recorded time** `[recorded_at, retracted_at)` is about the palace: from when until when it believed this version
  of the fact. The palace says so, by the stamp of the unit of work, which grows strictly whatever the clock does.

The two are independent. If the palace hears in May that Ada left Acme in March, it learns something about March
without claiming to have known it in April:

    fact  object  valid time         recorded time
    f_1   Acme    [January, open)    [January, May)     what was believed until May
    f_1   Acme    [January, March)   [May, open)        what is believed since

So no version is overwritten. To *correct* a fact is to retract its version and to record another one under the same
`fact_id` with the same stamp. The intervals meet, and at each instant exactly one of them is believed. A query selects
by `as_of` along the first axis and by `known_at` along the second. `known_at` answers as the same query would have been
answered then, except that a version corrected since shows when it was retracted. (Snodgrass, "Developing Time-Oriented
Database Applications in SQL", 1999, chapter 10; SQL:2011 calls the axes application time and system time.)

Rules that follow:

- Facts are a set. The same triple may hold during several intervals, also overlapping ones, and each is a fact of its
  own; but no two believed facts agree in triple and interval. A fact that a correction would make equal to another one
  is absorbed by it.
- An end is said of the triple, not of one of its intervals: `invalidate` ends every believed interval that covers the
  instant, so that the triple does not hold afterwards. The one that began first contains all the others then, and is
  what is returned. Intervals that lie wholly before or after are left alone.
- A fact that never was true is *retracted*: its version ends in recorded time, and none follows it. That is said of one
  interval, not of the triple.
- What is corrected in the unit of work that recorded it was never seen by anyone, and leaves no version behind: there
  is no empty interval `[t, t)` in recorded time.
- Subjects and predicates are names and compare by key; objects compare exactly, so that `README.md` and `readme.md`
  are two facts. As a place in the graph an object is the entity of its key, and both lead to the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import Conflict, InvalidArgument, NotFound
from mempalace_mcp.core.ids import FACT, new_id
from mempalace_mcp.core.model import (
    RETRACT,
    Direction,
    Fact,
    FactAdded,
    GraphAnswer,
    GraphStatistics,
    NewFact,
    Page,
    Resolved,
)
from mempalace_mcp.core.navigation import GraphPath
from mempalace_mcp.core.text import Name, excerpt
from mempalace_mcp.storage import graph_queries
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.graph_paths import find_path
from mempalace_mcp.storage.graph_queries import (
    COLUMNS,
    SOURCE,
    PointInTime,
    Question,
    StoredName,
    View,
    add_entity,
    add_predicate,
    as_name,
    read_fact,
)
from mempalace_mcp.storage.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Triple:
    """What a fact says, without its times: two names and, exactly as written, an object."""

    subject: Name
    predicate: Name
    object: str

    def __str__(self) -> str:
        return f"{self.subject.shown} {self.predicate.shown} {excerpt(self.object)}"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a fact, and the row that holds it."""

    triple: Triple
    row: int
    fact: Fact


@dataclass(frozen=True, slots=True)
class Known:
    """The stored rows of a triple: its names, and the one believed fact of its interval.

    `place` is the entity that the object names, stored or not.
    """

    subject: StoredName | None
    predicate: StoredName | None
    place: Name | None
    place_id: int | None
    fact: Fact | None


def believed(connection: Connection, triple: Triple) -> list[Version]:
    """What is believed now of a triple, each interval of it, the one that began first leading."""
    rows = connection.execute(
        f"""
        SELECT {COLUMNS}, facts.id FROM {SOURCE}
        WHERE subjects.key = ? AND predicates.key = ? AND facts.object = ? AND facts.retracted_at IS NULL
        ORDER BY facts.since, facts.id
        """,
        (triple.subject.key, triple.predicate.key, triple.object),
    )
    return [Version(triple, row[-1], read_fact(row)) for row in rows]


def known_of(connection: Connection, triple: Triple, valid_from: Instant | None, valid_to: Instant | None) -> Known:
    """The stored rows of a triple that holds during that interval."""
    place = as_name(triple.object)
    place_key = None if place is None else place.key
    same = connection.dialect.same
    row = connection.execute(
        f"""
        SELECT {COLUMNS}, subjects.id, predicates.id, places.id
        FROM (SELECT 1)
        LEFT JOIN entities AS subjects ON subjects.key = ?
        LEFT JOIN predicates ON predicates.key = ?
        LEFT JOIN entities AS places ON places.key = ?
        LEFT JOIN facts ON facts.subject = subjects.id AND facts.predicate = predicates.id
            AND facts.object = ? AND facts.retracted_at IS NULL
            AND {same("facts.valid_from", "?")} AND {same("facts.valid_to", "?")}
        """,
        (triple.subject.key, triple.predicate.key, place_key, triple.object, valid_from, valid_to),
    ).fetchone()
    _, subject, predicate, *_, subject_id, predicate_id, place_id = row
    return Known(
        subject=None if subject_id is None else StoredName(subject_id, subject),
        predicate=None if predicate_id is None else StoredName(predicate_id, predicate),
        place=place,
        place_id=place_id,
        fact=None if row[0] is None else read_fact(row),
    )


def other_objects(connection: Connection, triple: Triple, limit: int) -> list[str]:
    """Objects that are believed with the triple's subject and predicate, those that hold longest first."""
    rows = connection.execute(
        f"""
        SELECT facts.object FROM {SOURCE}
        WHERE subjects.key = ? AND predicates.key = ? AND facts.retracted_at IS NULL
        GROUP BY facts.object ORDER BY max(facts.until) DESC, facts.object LIMIT ?
        """,
        (triple.subject.key, triple.predicate.key, limit),
    )
    return [object for (object,) in rows]


def record(tx: Transaction, new: NewFact, known: Known) -> Fact:
    """Store the first version of a fact."""
    subject = known.subject or add_entity(tx, new.subject)
    predicate = known.predicate or add_predicate(tx, new.predicate)
    place = known.place_id
    if place is None and known.place is not None:
        place = (subject if known.place.key == new.subject.key else add_entity(tx, known.place)).id
    now = tx.stamp.instant
    instant = now if new.recorded_at is None else min(new.recorded_at, now)
    fact = Fact(
        fact_id=new_id(FACT, instant),
        subject=subject.name,
        predicate=predicate.name,
        object=new.object,
        valid_from=new.valid_from,
        valid_to=new.valid_to,
        recorded_at=instant,
        retracted_at=None,
        confidence=new.confidence,
        source_drawer_id=new.source_drawer_id,
    )
    tx.connection.execute(
        """
        INSERT INTO facts (fact_id, subject, predicate, object, object_entity, valid_from, valid_to, recorded_at,
                           confidence, source_drawer_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            fact.fact_id,
            subject.id,
            predicate.id,
            fact.object,
            place,
            fact.valid_from,
            fact.valid_to,
            fact.recorded_at,
            fact.confidence,
            fact.source_drawer_id,
        ),
    )
    return fact


def end(tx: Transaction, version: Version, moment: Instant) -> Fact:
    """Retract a version and record one that ends at the moment; return what is believed instead of it.

    That is the new version, or the fact which it would equal: facts are a set.
    """
    fact, instant = version.fact, tx.stamp.instant
    believed_instead = known_of(tx.connection, version.triple, fact.valid_from, moment).fact
    if believed_instead is None:
        believed_instead = replace(fact, valid_to=moment, recorded_at=instant)
        tx.connection.execute(
            """
            INSERT INTO facts (fact_id, subject, predicate, object, object_entity, valid_from, valid_to, recorded_at,
                               confidence, source_drawer_id)
            SELECT fact_id, subject, predicate, object, object_entity, valid_from, ?, ?, confidence, source_drawer_id
            FROM facts WHERE id = ?
            """,
            (moment, instant, version.row),
        )
    _believe_no_longer(tx, version)
    return believed_instead


def retract(tx: Transaction, version: Version) -> Fact:
    """Believe a version no longer, and nothing in its place; return it."""
    _believe_no_longer(tx, version)
    return replace(version.fact, retracted_at=tx.stamp.instant)


def _believe_no_longer(tx: Transaction, version: Version) -> None:
    if version.fact.recorded_at == tx.stamp.instant:
        tx.connection.execute("DELETE FROM facts WHERE id = ?", (version.row,))
    else:
        tx.connection.execute("UPDATE facts SET retracted_at = ? WHERE id = ?", (tx.stamp.instant, version.row))


_SHOWN = 5


class GraphStore:
    """Facts in their tables. Reads take a connection, writes a unit of work; `now` is the clock of the questions."""

    def __init__(self, now: Callable[[], Instant] = clock.now) -> None:
        self._now = now

    def add(self, tx: Transaction, fact: NewFact) -> FactAdded:
        """Record a fact; one that is believed already, with the same interval, is returned and nothing is written.

        Raises:
            InvalidArgument: no live drawer has the id `source_drawer_id`.
        """
        _verify_source(tx.connection, fact.source_drawer_id)
        triple = Triple(fact.subject, fact.predicate, fact.object)
        known = known_of(tx.connection, triple, fact.valid_from, fact.valid_to)
        if known.fact is not None:
            return FactAdded(known.fact, created=False)
        return FactAdded(record(tx, fact, known), created=True)

    def invalidate(
        self,
        tx: Transaction,
        subject: Name,
        predicate: Name,
        object: str,
        ended: Instant | None,
        fact_id: str | None = None,
    ) -> Fact:
        """End what holds at `ended` (None: at this instant), and return it as it is believed from now on.

        With a `fact_id` that one of the triple's intervals alone is ended.

        Raises:
            NotFound: no such triple is believed, or none of that id.
            InvalidArgument: it begins only at `ended` or later.
            Conflict: it does not hold at `ended`, having ended before.
        """
        versions = _believed(tx.connection, Triple(subject, predicate, object), "object", fact_id)
        moment = tx.stamp.instant if ended is None else ended
        return _end(tx, _holding(versions, moment, "ended"), moment)

    def retract(self, tx: Transaction, subject: Name, predicate: Name, object: str, fact_id: str | None = None) -> Fact:
        """Take back a fact that never was true, and return it as it was; `known_at` an earlier instant it is believed.

        Raises:
            NotFound: no such triple is believed, or none of that id.
            InvalidArgument: it is believed of several intervals, and no `fact_id` says which one is meant.
        """
        versions = _believed(tx.connection, Triple(subject, predicate, object), "object", fact_id)
        if len(versions) > 1:
            raise InvalidArgument(
                f"{len(versions)} facts say {versions[0].triple}: {_intervals(versions)}",
                argument="fact_id",
                hint="Give the fact_id of the one that never was true; call once for each of several.",
            )
        return retract(tx, versions[0])

    def supersede(
        self,
        tx: Transaction,
        subject: Name,
        predicate: Name,
        old_object: str,
        new: NewFact,
        at: Instant | None,
    ) -> tuple[Fact, Fact]:
        """End one object's fact at `at` (None: at this instant) and begin another's there: (ended, begun).

        Of `new` the object, confidence and source count; it holds from `at` until the old fact would have ended.

        Raises:
            NotFound: the old triple is not believed.
            InvalidArgument: both objects are the same, the old fact begins only at `at` or later, or `new` is wrong.
            Conflict: the old fact does not hold at `at`, having ended before.
        """
        if new.object == old_object:
            raise InvalidArgument(
                "new_object is the same as old_object, so there is nothing to supersede",
                argument="new_object",
                hint="Objects compare exactly, case and spaces included.",
            )
        versions = _believed(tx.connection, Triple(subject, predicate, old_object), "old_object")
        moment = tx.stamp.instant if at is None else at
        holding = _holding(versions, moment, "at")
        ends = [version.fact.valid_to for version in holding]
        until = None if None in ends else max(end for end in ends if end is not None)
        successor = replace(new, subject=subject, predicate=predicate, valid_from=moment, valid_to=until)
        begun = self.add(tx, successor).fact
        return _end(tx, holding, moment), begun

    def query(
        self,
        connection: Connection,
        entity: str,
        *,
        as_of: Instant | None = None,
        known_at: Instant | None = None,
        direction: Direction = Direction.BOTH,
        depth: int = 1,
        limit: int = 100,
        cursor: str | None = None,
        asked: object = None,
    ) -> GraphAnswer:
        """Facts within `depth` hops of an entity, nearest first, then in the order of `GraphAnswer`.

        With `as_of` only facts that hold then. An unknown entity has no facts, and the answer has suggestions. `depth`
        and `limit` are positive. A cursor continues with the state of the first page; it is bound to `asked`, the
        instants as the caller wrote them.

        Raises:
            InvalidArgument: the entity cannot be a name, or the cursor belongs to another question.
        """
        last = _last_write(connection)
        question = Question(entity, View(as_of, known_at), direction, depth, asked)
        return graph_queries.query(connection, question, PointInTime(max(self._now(), last), last), limit, cursor)

    def path(self, connection: Connection, source: str, target: str, view: View, max_hops: int) -> GraphPath:
        """A shortest chain of facts in view between two entities, of at most so many facts, in either direction.

        Raises:
            InvalidArgument: an entity cannot be a name.
        """
        return find_path(connection, source, target, view, max_hops)

    def timeline(
        self, connection: Connection, entity: str | None, limit: int, cursor: str | None
    ) -> tuple[Page[Fact], Resolved | None]:
        """Facts by the start of their validity, unbounded ones first; of one entity (and how it was understood), or
        of all.

        Raises:
            InvalidArgument: the cursor is not one of ours, or the entity cannot be a name.
        """
        return graph_queries.timeline(connection, entity, limit, cursor)

    def recent(self, connection: Connection, now: Instant, limit: int) -> list[Fact]:
        """Facts that hold now, those recorded last first."""
        return graph_queries.recent(connection, self._present(connection, now), limit)

    def statistics(self, connection: Connection, now: Instant) -> GraphStatistics:
        """Sizes of the graph."""
        return graph_queries.statistics(connection, self._present(connection, now))

    @staticmethod
    def _present(connection: Connection, now: Instant) -> Instant:
        """Not before the last write: a fact that has just ended must not hold again if the clock is set back."""
        return max(now, _last_write(connection))


def _verify_source(connection: Connection, source: str | None) -> None:
    live = "SELECT 1 FROM drawers WHERE drawer_id = ? AND deleted_at IS NULL"
    if source is not None and connection.execute(live, (source,)).fetchone() is None:
        raise InvalidArgument(
            f"no drawer has the id {source!r}",
            argument="source_drawer_id",
            hint="Use drawer_id as search, list_drawers or add_drawer gave it; a deleted drawer is no source.",
        )


def _last_write(connection: Connection) -> Instant:
    (last,) = connection.execute("SELECT recorded_at FROM state").fetchone()
    return int(last)


def _believed(connection: Connection, triple: Triple, argument: str, fact_id: str | None = None) -> list[Version]:
    """The believed versions of a triple, or the one of that fact.

    Raises:
        NotFound: there is none; the hint says which there are.
    """
    versions = believed(connection, triple)
    chosen = [version for version in versions if fact_id in (None, version.fact.fact_id)]
    if chosen:
        return chosen
    if versions:
        raise NotFound(
            f"no fact that says {triple} has the id {excerpt(fact_id or '')}",
            argument="fact_id",
            hint=f"There is: {_intervals(versions)}.",
        )
    relation = f"{triple.subject.shown} {triple.predicate.shown}"
    others = other_objects(connection, triple, _SHOWN)
    hint = f"There is no fact for {relation}; kg_query shows what is known of an entity."
    if others:
        objects = ", ".join(repr(excerpt(other)) for other in others)
        hint = f"Objects compare exactly. There is, for {relation}: {objects}."
    raise NotFound(f"no fact says {triple}", argument=argument, hint=hint)


def _holding(versions: Sequence[Version], moment: Instant, argument: str) -> list[Version]:
    """Those that hold at the moment, and did before, so that they can end there."""
    holding = [version for version in versions if version.fact.holds_at(moment)]
    if holding and all(version.fact.valid_from != moment for version in holding):
        return holding
    if holding or all(version.fact.begins_after(moment) for version in versions):
        raise InvalidArgument(
            f"{argument} is {clock.format_instant(moment)}, and the fact begins no earlier: {_intervals(versions)}",
            argument=argument,
            hint=f"Give an instant after the one from which the fact holds. {RETRACT}",
        )
    raise Conflict(
        f"the fact does not hold at {clock.format_instant(moment)}; it holds {_intervals(versions)}",
        argument=argument,
        hint="It has ended already. To say that it holds during another interval too, add it with that interval. "
        + RETRACT,
    )


def _intervals(versions: Sequence[Version]) -> str:
    shown = [
        f"{version.fact.fact_id} from {clock.format_optional_instant(version.fact.valid_from) or 'ever'} "
        f"to {clock.format_optional_instant(version.fact.valid_to) or 'open'}"
        for version in versions[:_SHOWN]
    ]
    return "; ".join(shown) + ("; ..." if len(versions) > _SHOWN else "")


def _end(tx: Transaction, versions: Sequence[Version], moment: Instant) -> Fact:
    """Correct each of them to end at the moment; return the one that began first."""
    first, *_ = [end(tx, version, moment) for version in versions]
    return first
