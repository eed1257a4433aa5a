"""A knowledge graph in memory, at an instant of the test's choice: `with fresh_graph() as graph: ...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, Instant
from mempalace_mcp.core.model import Direction, Fact, FactAdded, GraphAnswer, NewFact
from mempalace_mcp.core.text import Name, read_entity
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.support import fresh_connection, unit

START = clock.parse("2026-01-01", "start")


def day(number: float) -> Instant:
    """The instant that many days after the first of January 2026."""
    return START + round(number * DAY)


def named(text: str) -> Name:
    """The name that a caller reads from a text."""
    return read_entity(text, "name")


def new_fact(
    subject: str,
    predicate: str,
    object: str,
    valid_from: Instant | None = None,
    valid_to: Instant | None = None,
    confidence: float | None = None,
    source_drawer_id: str | None = None,
) -> NewFact:
    """A fact as a caller gives it to the store."""
    return NewFact(named(subject), named(predicate), object, valid_from, valid_to, confidence, source_drawer_id)


class Graph:
    """The store with a connection; `now` is what its clock shows, and each write is a unit of work of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = START
        self.store = GraphStore(lambda: self.now)

    @contextmanager
    def unit(self) -> Iterator[Transaction]:
        """A unit of work, rolled back when something is refused."""
        with unit(self.connection, lambda: self.now) as transaction:
            yield transaction

    def add(
        self,
        subject: str,
        predicate: str,
        object: str,
        valid_from: Instant | None = None,
        valid_to: Instant | None = None,
        confidence: float | None = None,
        source_drawer_id: str | None = None,
    ) -> FactAdded:
        fact = new_fact(subject, predicate, object, valid_from, valid_to, confidence, source_drawer_id)
        with self.unit() as tx:
            return self.store.add(tx, fact)

    def invalidate(self, subject: str, predicate: str, object: str, ended: Instant | None = None) -> Fact:
        with self.unit() as tx:
            return self.store.invalidate(tx, named(subject), named(predicate), object, ended)

    def retract(self, subject: str, predicate: str, object: str, fact_id: str | None = None) -> Fact:
        with self.unit() as tx:
            return self.store.retract(tx, named(subject), named(predicate), object, fact_id)

    def supersede(
        self,
        subject: str,
        predicate: str,
        old: str,
        new: str,
        at: Instant | None = None,
        confidence: float | None = None,
    ) -> tuple[Fact, Fact]:
        successor = new_fact(subject, predicate, new, confidence=confidence)
        with self.unit() as tx:
            return self.store.supersede(tx, named(subject), named(predicate), old, successor, at)

    def query(
        self,
        entity: str,
        as_of: Instant | None = None,
        known_at: Instant | None = None,
        direction: Direction = Direction.BOTH,
        depth: int = 1,
        limit: int = 100,
    ) -> GraphAnswer:
        return self.store.query(
            self.connection, entity, as_of=as_of, known_at=known_at, direction=direction, depth=depth, limit=limit
        )

    def objects(self, entity: str, as_of: Instant | None = None, known_at: Instant | None = None) -> list[str]:
        """The objects of an entity's own facts, in the order of the answer."""
        return [fact.object for fact in self.query(entity, as_of, known_at, Direction.OUTGOING).facts]

    def content(self) -> list[tuple[object, ...]]:
        """Everything the graph has stored, and the count of units of work."""
        tables = ("entities", "predicates", "facts", "state")
        return [row for table in tables for row in self.connection.execute(f"SELECT * FROM {table} ORDER BY id")]


@contextmanager
def fresh_graph() -> Iterator[Graph]:
    """An empty graph, closed at the end."""
    with fresh_connection(started=START) as connection:
        yield Graph(connection)


def file_drawer(graph: Graph, drawer_id: str) -> None:
    """A live drawer for facts to stem from."""
    with graph.unit() as tx:
        tx.connection.execute("INSERT INTO wings VALUES (1, 'wing', 'wing') ON CONFLICT DO NOTHING")
        tx.connection.execute("INSERT INTO rooms VALUES (1, 1, 'room', 'room', 0) ON CONFLICT DO NOTHING")
        tx.connection.execute(
            """
            INSERT INTO drawers
                (drawer_id, wing, room, created_at, updated_at, seq, content_hash, normalized_hash, content)
            VALUES (?, 1, 1, ?, ?, ?, ?, ?, 'text')
            """,
            (drawer_id, tx.stamp.instant, tx.stamp.instant, tx.stamp.seq, b"", b""),
        )
