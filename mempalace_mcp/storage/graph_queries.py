"""Queries on the knowledge graph: the facts around an entity, timelines, names and sizes.

A query around an entity walks breadth first over entities. An entity that is `n` hops away shows its facts at hop
`n + 1`. An object leads to the entity of the same key. Facts outside the view (retracted, or not true at `as_of`) are
not walked over. The number of entities is bounded, so a query of a hub ends, and the answer is marked as truncated.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Direction, Fact, GraphAnswer, GraphStatistics, Page, Resolved
from mempalace_mcp.core.text import Name, read_entity
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import GREATEST, Position, decode_cursor, encode_cursor
from mempalace_mcp.storage.transactions import Transaction

COLUMNS = """
    facts.fact_id, subjects.name, predicates.name, facts.object, facts.valid_from, facts.valid_to,
    facts.recorded_at, facts.retracted_at, facts.confidence, facts.source_drawer_id
"""
SOURCE = """
    facts
    JOIN entities AS subjects ON subjects.id = facts.subject
    JOIN predicates ON predicates.id = facts.predicate
"""


def read_fact(row: tuple[Any, ...]) -> Fact:
    """The fact of a row that begins with `COLUMNS`."""
    return Fact(*row[:10])


@dataclass(frozen=True, slots=True)
class View:
    """Which versions of facts a question sees: believed at `known_at` (None: now), true at `as_of` (None: any time)."""

    as_of: Instant | None = None
    known_at: Instant | None = None

    @property
    def condition(self) -> str:
        """In SQL, on the columns of `facts` and the named `parameters`."""
        believed = "retracted_at IS NULL"
        if self.known_at is not None:
            believed = "recorded_at <= :known_at AND (retracted_at IS NULL OR retracted_at > :known_at)"
        holds = "" if self.as_of is None else " AND since <= :as_of AND until > :as_of"
        return believed + holds

    @property
    def parameters(self) -> dict[str, Instant | None]:
        """The values that `condition` names."""
        return {"as_of": self.as_of, "known_at": self.known_at}


MAX_SUGGESTIONS = 5

_CANDIDATES = 100
_SHORTEST_PART = 3
_RESEMBLANCE = 0.6
_AFTER_ALL_TEXT = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class StoredName:
    """An entity or predicate: its row, and how it is shown."""

    id: int
    name: str


def add_entity(tx: Transaction, name: Name) -> StoredName:
    """Store an entity whose key is new."""
    return _insert(tx, "entities", name)


def add_predicate(tx: Transaction, name: Name) -> StoredName:
    """Store a predicate whose key is new."""
    return _insert(tx, "predicates", name)


def as_name(object: str) -> Name | None:
    """The entity that an object names; None for one that cannot be a name, such as a long text."""
    try:
        return read_entity(object, "object")
    except InvalidArgument:
        return None


def resolve(connection: Connection, asked: str) -> tuple[StoredName | None, Resolved]:
    """The entity of that name, and how the name was understood; suggestions where there is none.

    Raises:
        InvalidArgument: it cannot be a name.
    """
    name = read_entity(asked, "entity")
    found = _find(connection, name)
    if found is not None:
        return found, Resolved(asked, found.name)
    return None, Resolved(asked, None, suggest(connection, name.key))


def suggest(connection: Connection, key: str) -> list[str]:
    """Names like the one asked for, best first: those it begins, those it is part of, those written much like it."""
    names = dict(_extensions(connection, key, MAX_SUGGESTIONS))
    if len(key) >= _SHORTEST_PART:
        names |= _containing(connection, key)
    neighbours = dict(_neighbours(connection, key))
    similar = difflib.get_close_matches(key, neighbours, MAX_SUGGESTIONS, _RESEMBLANCE)
    names |= {other: neighbours[other] for other in similar}
    return list(names.values())[:MAX_SUGGESTIONS]


def _find(connection: Connection, name: Name) -> StoredName | None:
    row = connection.execute("SELECT id, name FROM entities WHERE key = ?", (name.key,)).fetchone()
    return StoredName(*row) if row else None


def _insert(tx: Transaction, table: str, name: Name) -> StoredName:
    statement = f"INSERT INTO {table} (key, name) VALUES (?, ?) RETURNING id"
    (row,) = tx.connection.execute(statement, (name.key, name.shown)).fetchone()
    return StoredName(row, name.shown)


def _extensions(connection: Connection, key: str, limit: int) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT key, name FROM entities WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
        (key, key + _AFTER_ALL_TEXT, limit),
    ).fetchall()


def _containing(connection: Connection, key: str) -> list[tuple[str, str]]:
    holds = connection.dialect.position("key", "?")
    return connection.execute(
        f"SELECT key, name FROM entities WHERE {holds} > 0 ORDER BY length(key), key LIMIT ?", (key, MAX_SUGGESTIONS)
    ).fetchall()


def _neighbours(connection: Connection, key: str) -> list[tuple[str, str]]:
    """Names around the place in the alphabet where this one would stand, by ever shorter beginnings."""
    around: dict[str, str] = {}
    for length in range(len(key), 0, -1):
        around |= _extensions(connection, key[:length], _CANDIDATES)
        if len(around) >= _CANDIDATES:
            break
    return list(around.items())


MAX_ENTITIES = 1000
"""Visited by one question."""

_ENDS = {Direction.OUTGOING: ("subject",), Direction.INCOMING: ("object_entity",)}
_BOTH_ENDS = ("subject", "object_entity")


@dataclass(frozen=True, slots=True)
class Question:
    """Entity, view, direction and depth of a query; `asked` are the instants of the view as the caller wrote them."""

    entity: str
    view: View
    direction: Direction
    depth: int
    asked: object = None


@dataclass(frozen=True, slots=True)
class PointInTime:
    """The instant of a query: the present, and the last recorded time."""

    present: Instant
    last: Instant


def query(
    connection: Connection, question: Question, moment: PointInTime, limit: int, cursor: str | None
) -> GraphAnswer:
    """Facts within `depth` hops of an entity; the present tells current ones from others where no instant is named.

    All pages show what was believed at the first one: the cursor holds that instant, and how many facts were shown.

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
    connection: Connection, start: int, view: View, ends: tuple[str, ...], depth: int
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
    connection: Connection,
    frontier: list[int],
    reached: dict[int, int],
    view: View,
    ends: tuple[str, ...],
    limit: int,
) -> list[int]:
    """Entities one hop beyond the frontier, those of facts that hold longest first."""
    dialect = connection.dialect
    source = f"{dialect.listed(':frontier', 'frontier')} {dialect.ordered_join} facts"
    hops = " UNION ALL ".join(
        f"SELECT {_other(end)} AS entity, until FROM {source} ON {end} = frontier.value WHERE {view.condition}"
        for end in ends
    )
    rows = connection.execute(
        f"""
        SELECT entity FROM ({hops}) AS hops
        WHERE entity IS NOT NULL AND entity NOT IN {dialect.members(":reached")}
        GROUP BY entity ORDER BY max(until) DESC, entity LIMIT :limit
        """,
        {
            "frontier": dialect.array(frontier),
            "reached": dialect.array(list(reached)),
            "limit": limit,
            **view.parameters,
        },
    )
    return [entity for (entity,) in rows]


def _other(end: str) -> str:
    return "object_entity" if end == "subject" else "subject"


def _facts_of(
    connection: Connection,
    reached: dict[int, int],
    view: View,
    ends: tuple[str, ...],
    at: Instant,
    limit: int,
    shown: int,
) -> list[tuple[Any, ...]]:
    """Rows of `COLUMNS`, hop and total, but not those that were shown: by hop, then current (latest begun first),
    future (soonest first), ended (latest ended first); what was recorded later comes first among equals."""
    dialect = connection.dialect
    hops = range(1, max(reached.values()) + 1)
    entities = " UNION ALL ".join(
        f"SELECT value, {hop} FROM {dialect.listed(f':hop_{hop}', f'hop_{hop}')}" for hop in hops
    )
    touched = " UNION ALL ".join(
        f"SELECT facts.id, hop, since, until FROM reached {dialect.ordered_join} facts ON {end} = entity"
        f" WHERE {view.condition}"
        for end in ends
    )
    values = {f"hop_{hop}": dialect.array([entity for entity, each in reached.items() if each == hop]) for hop in hops}
    return connection.execute(
        f"""
        WITH reached (entity, hop) AS ({entities}),
        touched (id, hop, since, until) AS ({touched}),
        nearest (id, hop, since, until) AS (SELECT id, min(hop), since, until FROM touched GROUP BY id, since, until),
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
        {**values, "at": at, "limit": limit, "shown": shown, **view.parameters},
    ).fetchall()


PREDICATES_SHOWN = 50

_OLDEST: Position = (-GREATEST, -GREATEST, -GREATEST)
"""Before the first fact there can be: start of its validity, recorded time, row."""


def timeline(
    connection: Connection, entity: str | None, limit: int, cursor: str | None
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


def recent(connection: Connection, now: Instant, limit: int) -> list[Fact]:
    """Facts that hold now, those recorded last first."""
    # The unary plus keeps SQLite from another index, so that it reads the rows backwards.
    rows = connection.execute(
        f"""
        SELECT {COLUMNS} FROM {SOURCE}
        WHERE facts.retracted_at IS NULL AND +facts.since <= :now AND +facts.until > :now
        ORDER BY facts.id DESC LIMIT :limit
        """,
        {"now": now, "limit": limit},
    )
    return [read_fact(row) for row in rows]


def statistics(connection: Connection, now: Instant) -> GraphStatistics:
    """Sizes of the graph."""
    (entities,) = connection.execute("SELECT count(*) FROM entities").fetchone()
    facts, future, ended = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE since > :now), count(*) FILTER (WHERE until <= :now)"
        " FROM facts WHERE retracted_at IS NULL",
        {"now": now},
    ).fetchone()
    uses = connection.execute(
        """
        SELECT name, uses, count(*) OVER ()
        FROM (SELECT predicate, count(*) AS uses FROM facts WHERE retracted_at IS NULL GROUP BY predicate) AS used
        JOIN predicates ON id = predicate
        ORDER BY uses DESC, key LIMIT ?
        """,
        (PREDICATES_SHOWN,),
    ).fetchall()
    return GraphStatistics(
        entities=entities,
        facts=facts,
        current=facts - future - ended,
        future=future,
        ended=ended,
        predicates={name: count for name, count, _ in uses},
        predicate_count=uses[0][2] if uses else 0,
    )


def _page(connection: Connection, entity: StoredName | None, limit: int, cursor: str | None) -> Page[Fact]:
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
