"""The knowledge graph as a whole, as believed now: its timeline page by page, what is new, its sizes."""

from __future__ import annotations

import sqlite3

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Fact, GraphStatistics, Page, Resolved
from mempalace_mcp.storage.cursors import GREATEST, Position, decode_cursor, encode_cursor
from mempalace_mcp.storage.graph_entities import StoredName, resolve
from mempalace_mcp.storage.graph_rows import COLUMNS, SOURCE, read_fact

PREDICATES_SHOWN = 50

_OLDEST: Position = (-GREATEST, -GREATEST, -GREATEST)
"""Before the first fact there can be: start of its validity, recorded time, row."""


def timeline(
    connection: sqlite3.Connection, entity: str | None, limit: int, cursor: str | None
) -> tuple[Page[Fact], Resolved | None]:
    """Facts by the start of their validity (unbounded ones first), then by recorded time; of one entity, or all.

    Raises:
        InvalidArgument: the cursor is none, or one of another listing, or the entity cannot be a name.
    """
    if entity is None:
        return _page(connection, None, limit, cursor), None
    found, resolved = resolve(connection, entity)
    if found is None:
        return Page((), 0, None), resolved
    return _page(connection, found, limit, cursor), resolved


def recent(connection: sqlite3.Connection, now: Instant, limit: int) -> list[Fact]:
    """Facts that hold now, those recorded last first. The unary plus keeps SQLite on the way back through the rows."""
    rows = connection.execute(
        f"""
        SELECT {COLUMNS} FROM {SOURCE}
        WHERE facts.retracted_at IS NULL AND +facts.since <= :now AND +facts.until > :now
        ORDER BY facts.id DESC LIMIT :limit
        """,
        {"now": now, "limit": limit},
    )
    return [read_fact(row) for row in rows]


def statistics(connection: sqlite3.Connection, now: Instant) -> GraphStatistics:
    """Sizes of the graph."""
    (entities,) = connection.execute("SELECT count(*) FROM entities").fetchone()
    facts, future, ended = connection.execute(
        "SELECT count(*), total(since > :now), total(until <= :now) FROM facts WHERE retracted_at IS NULL",
        {"now": now},
    ).fetchone()
    uses = connection.execute(
        """
        SELECT name, uses, count(*) OVER ()
        FROM (SELECT predicate, count(*) AS uses FROM facts WHERE retracted_at IS NULL GROUP BY predicate)
        JOIN predicates ON id = predicate
        ORDER BY uses DESC, key LIMIT ?
        """,
        (PREDICATES_SHOWN,),
    ).fetchall()
    return GraphStatistics(
        entities=entities,
        facts=facts,
        current=facts - int(future) - int(ended),
        future=int(future),
        ended=int(ended),
        predicates={name: count for name, count, _ in uses},
        predicate_count=uses[0][2] if uses else 0,
    )


def _page(connection: sqlite3.Connection, entity: StoredName | None, limit: int, cursor: str | None) -> Page[Fact]:
    question = ("timeline", None if entity is None else entity.id)
    since, recorded_at, row = decode_cursor(cursor, question, _OLDEST)
    listed = "facts.retracted_at IS NULL"
    if entity is not None:
        listed += """ AND facts.id IN (
            SELECT id FROM facts WHERE subject = :entity AND retracted_at IS NULL
            UNION ALL SELECT id FROM facts WHERE object_entity = :entity AND retracted_at IS NULL
        )"""
    parameters = {
        "entity": None if entity is None else entity.id,
        "since": since,
        "recorded_at": recorded_at,
        "id": row,
        "limit": limit + 1,
    }
    (total,) = connection.execute(f"SELECT count(*) FROM facts WHERE {listed}", parameters).fetchone()
    rows = connection.execute(
        f"""
        SELECT {COLUMNS}, facts.since, facts.recorded_at, facts.id FROM {SOURCE}
        WHERE {listed} AND (facts.since, facts.recorded_at, facts.id) > (:since, :recorded_at, :id)
        ORDER BY facts.since, facts.recorded_at, facts.id LIMIT :limit
        """,
        parameters,
    ).fetchall()
    shown = rows[:limit]
    more = encode_cursor(shown[-1][-3:], question) if len(rows) > limit else None
    return Page([read_fact(row) for row in shown], total, more)
