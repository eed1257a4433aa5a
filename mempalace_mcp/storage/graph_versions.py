"""Versions of facts: what is believed of a triple, recording a fact, ending one. Nothing else writes their table."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.ids import FACT, new_id
from mempalace_mcp.core.model import Fact, NewFact
from mempalace_mcp.core.text import Name, excerpt
from mempalace_mcp.storage.graph_entities import StoredName, add_entity, add_predicate, as_name
from mempalace_mcp.storage.graph_rows import COLUMNS, SOURCE, read_fact
from mempalace_mcp.storage.transaction import Transaction


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
    """What is stored already of a sentence: its names, and the believed fact of its interval; there is never a second.

    `place` is the entity that the object names, whether it is stored or not.
    """

    subject: StoredName | None
    predicate: StoredName | None
    place: Name | None
    place_id: int | None
    fact: Fact | None


def believed(connection: sqlite3.Connection, triple: Triple) -> list[Version]:
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


def known_of(
    connection: sqlite3.Connection, triple: Triple, valid_from: Instant | None, valid_to: Instant | None
) -> Known:
    """What is stored already of a triple that holds during that interval."""
    place = as_name(triple.object)
    place_key = None if place is None else place.key
    row = connection.execute(
        f"""
        SELECT {COLUMNS}, subjects.id, predicates.id, places.id
        FROM (SELECT 1)
        LEFT JOIN entities AS subjects ON subjects.key = ?
        LEFT JOIN predicates ON predicates.key = ?
        LEFT JOIN entities AS places ON places.key = ?
        LEFT JOIN facts ON facts.subject = subjects.id AND facts.predicate = predicates.id
            AND facts.object = ? AND facts.retracted_at IS NULL AND facts.valid_from IS ? AND facts.valid_to IS ?
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


def other_objects(connection: sqlite3.Connection, triple: Triple, limit: int) -> list[str]:
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
    instant = tx.stamp.instant
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
