"""The shortest chain of facts between two entities.

The walk goes breadth first, over facts in either direction; at each hop the entity that is looked for comes first, then
those of facts that hold longest. The number of entities is bounded, so that a walk around a hub ends.
"""

from __future__ import annotations

from mempalace_mcp.core.model import Fact
from mempalace_mcp.core.navigation import GraphPath
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.graph_queries import COLUMNS, SOURCE, View, read_fact, resolve

MAX_VISITED = 5000
"""Entities visited by one question."""


def find_path(connection: Connection, source: str, target: str, view: View, max_hops: int) -> GraphPath:
    """A shortest chain of at most `max_hops` facts in view, in order from the source.

    Raises:
        InvalidArgument: an entity cannot be a name.
    """
    start, named = resolve(connection, source)
    end, other = resolve(connection, target)
    if start is None or end is None:
        return GraphPath(named, other, None, truncated=False)
    reached: dict[int, int] = {start.id: 0}  # the fact that led to each entity; none has the number 0
    frontier, truncated = [start.id], False
    for _ in range(max_hops):
        if end.id in reached or not frontier:
            break
        room = MAX_VISITED - len(reached)
        found = _beyond(connection, frontier, list(reached), end.id, view, room + 1)
        truncated = truncated or len(found) > room
        frontier = [entity for entity, _ in found[:room]]
        reached |= dict(found[:room])
    if end.id not in reached:
        return GraphPath(named, other, None, truncated)
    return GraphPath(named, other, _chain(connection, reached, end.id), truncated=False)


def _beyond(
    connection: Connection, frontier: list[int], reached: list[int], wanted: int, view: View, limit: int
) -> list[tuple[int, int]]:
    """Entities one hop beyond the frontier, each with the latest of the facts that lead there."""
    dialect = connection.dialect
    source = f"{dialect.listed(':frontier', 'frontier')} {dialect.ordered_join} facts"
    hops = " UNION ALL ".join(
        f"SELECT {there} AS entity, facts.id AS fact, until FROM {source} ON {here} = frontier.value"
        f" WHERE {view.condition}"
        for here, there in (("subject", "object_entity"), ("object_entity", "subject"))
    )
    return connection.execute(
        f"""
        SELECT entity, max(fact) FROM ({hops}) AS hops
        WHERE entity IS NOT NULL AND entity NOT IN {dialect.members(":reached")}
        GROUP BY entity ORDER BY CASE WHEN entity = :wanted THEN 0 ELSE 1 END, max(until) DESC, entity LIMIT :limit
        """,
        {
            "frontier": dialect.array(frontier),
            "reached": dialect.array(reached),
            "wanted": wanted,
            "limit": limit,
            **view.parameters,
        },
    ).fetchall()


def _chain(connection: Connection, reached: dict[int, int], end: int) -> list[Fact]:
    """The facts that led to an entity, the first one first."""
    chain: list[Fact] = []
    entity = end
    while fact := reached[entity]:
        row = connection.execute(
            f"SELECT {COLUMNS}, facts.subject, facts.object_entity FROM {SOURCE} WHERE facts.id = ?", (fact,)
        ).fetchone()
        chain.append(read_fact(row))
        subject, object_entity = row[-2:]
        entity = object_entity if entity == subject else subject
    return chain[::-1]
