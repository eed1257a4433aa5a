"""The operations on the knowledge graph."""

from __future__ import annotations

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Edge
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Direction, Fact, FactAdded, GraphAnswer, GraphStatistics, NewFact, Page
from mempalace_mcp.core.navigation import GraphPath
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.graph_queries import View
from mempalace_mcp.storage.transactions import Transaction

MAX_DEPTH = 5
MAX_PATH = 6


class FactOperations:
    """Recording, ending, retracting, replacing and querying facts."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def kg_add(
        self,
        subject: str,
        predicate: str,
        object: str,
        *,
        valid_from: str | None = None,
        valid_to: str | None = None,
        confidence: float | None = None,
        source_drawer_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> FactAdded:
        """Record a fact. An identical fact that is believed already is returned instead."""
        fact = arguments.read_fact(
            self._stores.calendar, subject, predicate, object, valid_from, valid_to, confidence, source_drawer_id
        )
        graph = self._stores.graph
        return self._stores.writer.write(lambda tx: graph.add(tx, fact), deadline or Deadline())

    def kg_query(
        self,
        entity: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        direction: Direction = Direction.BOTH,
        depth: int = 1,
        limit: int = 100,
        cursor: str | None = None,
    ) -> GraphAnswer:
        """Facts within `depth` hops of an entity: all, or those true `as_of` a date; as believed now or `known_at`."""
        name = text.read_entity(entity, "entity")
        calendar = self._stores.calendar
        holding = arguments.read_instant(calendar, as_of, "as_of", Edge.LAST)
        believed = arguments.read_instant(calendar, known_at, "known_at", Edge.LAST)
        arguments.read_limit(depth, "depth", MAX_DEPTH)
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.graph.query(
                connection,
                name.shown,
                as_of=holding,
                known_at=believed,
                direction=Direction(direction),
                depth=depth,
                limit=limit,
                cursor=arguments.present(cursor),
                asked=(arguments.present(as_of), arguments.present(known_at)),
            )

    def kg_path(
        self,
        source: str,
        target: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        max_hops: int = MAX_PATH,
    ) -> GraphPath:
        """A shortest chain of facts between two entities: of all facts, or of those true `as_of` a date; as believed
        now or `known_at`."""
        first, last = text.read_entity(source, "source"), text.read_entity(target, "target")
        calendar = self._stores.calendar
        view = View(
            arguments.read_instant(calendar, as_of, "as_of", Edge.LAST),
            arguments.read_instant(calendar, known_at, "known_at", Edge.LAST),
        )
        arguments.read_limit(max_hops, "max_hops", MAX_PATH)
        with self._stores.reader.read() as connection:
            return self._stores.graph.path(connection, first.shown, last.shown, view, max_hops)

    def kg_invalidate(
        self,
        subject: str,
        predicate: str,
        object: str,
        *,
        ended: str | None = None,
        retract: bool = False,
        fact_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> Fact:
        """End a fact at `ended`, by default now; or `retract` one that never was true. `known_at` still shows it.

        A date as `ended` is the end of that day. `fact_id` chooses one where the triple holds repeatedly.
        """
        named, relation = text.read_entity(subject, "subject"), text.read_entity(predicate, "predicate")
        exact = arguments.read_object(object, "object")
        end = arguments.read_instant(self._stores.calendar, ended, "ended", Edge.AFTER)
        chosen = arguments.present(fact_id)
        if retract and end is not None:
            raise InvalidArgument(
                "a fact that is retracted never was true, so it has not ended",
                argument="ended",
                hint="Leave out ended to retract the fact, or retract to end it.",
            )
        graph = self._stores.graph

        def work(tx: Transaction) -> Fact:
            if retract:
                return graph.retract(tx, named, relation, exact, chosen)
            return graph.invalidate(tx, named, relation, exact, end, chosen)

        return self._stores.writer.write(work, deadline or Deadline())

    def kg_supersede(
        self,
        subject: str,
        predicate: str,
        old_object: str,
        new_object: str,
        *,
        at: str | None = None,
        confidence: float | None = None,
        source_drawer_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> tuple[Fact, Fact]:
        """End one fact and begin its successor at the same instant, in one transaction: (ended, begun).

        A date as `at` is the end of that day, a day through which the old fact still holds.
        """
        old = arguments.read_object(old_object, "old_object")
        new = self._successor(subject, predicate, new_object, confidence, source_drawer_id)
        moment = arguments.read_instant(self._stores.calendar, at, "at", Edge.AFTER)
        graph = self._stores.graph
        return self._stores.writer.write(
            lambda tx: graph.supersede(tx, new.subject, new.predicate, old, new, moment), deadline or Deadline()
        )

    def kg_timeline(
        self, *, entity: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[Page[Fact], str | None]:
        """Facts by the start of their validity, and the entity as it was understood."""
        given = arguments.present(entity)
        name = text.read_entity(given, "entity").shown if given else None
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            page, resolved = self._stores.graph.timeline(connection, name, limit, arguments.present(cursor))
        return page, resolved.entity if resolved else None

    def kg_stats(self) -> GraphStatistics:
        """Sizes of the graph, and how often each predicate is used."""
        with self._stores.reader.read() as connection:
            return self._stores.graph.statistics(connection, self._stores.now())

    def _successor(
        self, subject: str, predicate: str, new_object: str, confidence: float | None, source_drawer_id: str | None
    ) -> NewFact:
        calendar = self._stores.calendar
        arguments.read_object(new_object, "new_object")
        return arguments.read_fact(
            calendar, subject, predicate, new_object, confidence=confidence, source_drawer_id=source_drawer_id
        )
