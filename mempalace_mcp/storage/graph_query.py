"""Questions about one entity: the facts around it, found breadth first, in the order in which a reader wants them.

The walk is over entities: one that is `n` hops away shows its facts at hop `n + 1`. An object is walked through as the
entity of the same key. Facts that the question does not see (retracted, or not true at `as_of`) are no way either.
The entities around are bounded, so that a question about a hub of a dense graph ends, and says so.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Direction, GraphAnswer
from mempalace_mcp.storage.cursors import decode_cursor, encode_cursor
from mempalace_mcp.storage.graph_entities import resolve
from mempalace_mcp.storage.graph_rows import COLUMNS, SOURCE, View, read_fact

MAX_ENTITIES = 1000
"""Visited by one question."""

_ENDS = {Direction.OUTGOING: ("subject",), Direction.INCOMING: ("object_entity",)}
_BOTH_ENDS = ("subject", "object_entity")


@dataclass(frozen=True, slots=True)
class Question:
    """Whose facts, seen how, from how far around; `asked` is what the instants of the view were read from."""

    entity: str
    view: View
    direction: Direction
    depth: int
    asked: object = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a question is put: the present, and the last recorded time there is."""

    present: Instant
    last: Instant


def query(
    connection: sqlite3.Connection, question: Question, moment: Moment, limit: int, cursor: str | None
) -> GraphAnswer:
    """Facts within `depth` hops of an entity; the present tells current ones from others where no instant is named.

    All pages show what was believed when the first one was asked for: a cursor holds that, and how many were shown.

    Raises:
        InvalidArgument: the entity cannot be a name, or the cursor belongs to another question.
    """
    view = question.view
    start, resolved = resolve(connection, question.entity)
    at = next(instant for instant in (view.as_of, view.known_at, moment.present) if instant is not None)
    listing = (None if start is None else start.id, question.direction.value, question.depth, question.asked)
    first = (0, at, moment.last if view.known_at is None else view.known_at)
    shown, at, known_at = decode_cursor(cursor, listing, first)
    if start is None:
        return GraphAnswer(resolved, (), (), 0, at, truncated=False)
    if shown:
        view = View(None if view.as_of is None else at, known_at)
    ends = _ENDS.get(question.direction, _BOTH_ENDS)
    reached, truncated = _walk(connection, start.id, view, ends, question.depth)
    rows = _facts_of(connection, reached, view, ends, at, limit, shown)
    facts, depths = [read_fact(row) for row in rows], [row[-2] for row in rows]
    total = rows[0][-1] if rows else 0
    after = shown + len(rows)
    more = encode_cursor((after, at, known_at), listing) if after < total else None
    return GraphAnswer(resolved, facts, depths, total, at, truncated, more)


def _walk(
    connection: sqlite3.Connection, start: int, view: View, ends: tuple[str, ...], depth: int
) -> tuple[dict[int, int], bool]:
    """The entities whose facts are asked for, each with the hop of its facts, and whether there were too many."""
    reached = {start: 1}
    frontier = [start]
    for hop in range(2, depth + 1):
        room = MAX_ENTITIES - len(reached)
        found = _beyond(connection, frontier, reached, view, ends, room + 1)
        frontier = found[:room]
        reached |= dict.fromkeys(frontier, hop)
        if len(found) > room:
            return reached, True
        if not frontier:
            break
    return reached, False


def _beyond(
    connection: sqlite3.Connection,
    frontier: list[int],
    reached: dict[int, int],
    view: View,
    ends: tuple[str, ...],
    limit: int,
) -> list[int]:
    """Entities one hop beyond the frontier, those of facts that hold longest first."""
    hops = " UNION ALL ".join(
        f"SELECT {_other(end)} AS entity, until FROM json_each(:frontier) CROSS JOIN facts ON {end} = value "
        f"WHERE {view.condition}"
        for end in ends
    )
    rows = connection.execute(
        f"""
        SELECT entity FROM ({hops})
        WHERE entity IS NOT NULL AND entity NOT IN (SELECT value FROM json_each(:reached))
        GROUP BY entity ORDER BY max(until) DESC, entity LIMIT :limit
        """,
        {
            "frontier": json.dumps(frontier),
            "reached": json.dumps(list(reached)),
            "limit": limit,
            **view.parameters,
        },
    )
    return [entity for (entity,) in rows]


def _other(end: str) -> str:
    return "object_entity" if end == "subject" else "subject"


def _facts_of(
    connection: sqlite3.Connection,
    reached: dict[int, int],
    view: View,
    ends: tuple[str, ...],
    at: Instant,
    limit: int,
    shown: int,
) -> list[tuple[Any, ...]]:
    """Rows of `COLUMNS`, hop and total, but not those that were shown: by hop, then current (latest begun first),
    future (soonest first), ended (latest ended first); what was recorded later comes first among equals."""
    touched = " UNION ALL ".join(
        f"SELECT facts.id, hop, since, until FROM reached CROSS JOIN facts ON {end} = entity WHERE {view.condition}"
        for end in ends
    )
    return connection.execute(
        f"""
        WITH reached (entity, hop) AS (
            SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:reached)
        ),
        touched (id, hop, since, until) AS ({touched}),
        nearest (id, hop, since, until) AS (SELECT id, min(hop), since, until FROM touched GROUP BY id),
        ranked (id, hop, standing, distance) AS (
            SELECT id, hop,
                   CASE WHEN until <= :at THEN 2 WHEN since > :at THEN 1 ELSE 0 END,
                   CASE WHEN until <= :at THEN -until WHEN since > :at THEN since ELSE -since END
            FROM nearest
        ),
        chosen AS (
            SELECT *, count(*) OVER () AS total FROM ranked ORDER BY hop, standing, distance, id DESC
            LIMIT :limit OFFSET :shown
        )
        SELECT {COLUMNS}, chosen.hop, chosen.total
        FROM chosen CROSS JOIN {SOURCE} WHERE facts.id = chosen.id
        ORDER BY chosen.hop, chosen.standing, chosen.distance, chosen.id DESC
        """,
        {"reached": json.dumps(list(reached.items())), "at": at, "limit": limit, "shown": shown, **view.parameters},
    ).fetchall()
