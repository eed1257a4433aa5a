"""The knowledge graph: recording, ending, replacing and querying facts."""

from functools import partial
from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.model import Direction
from mempalace_mcp.palace.facts import MAX_DEPTH, MAX_PATH
from mempalace_mcp.server.tools.answers import LISTING_TOKENS, Json, count_fitting, format_fact
from mempalace_mcp.server.tools.schema import Cursor, Limit, Share
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool

_BYTES_IN_WRITER = 16 * 1024
"""Of a call; a fact is read in no time."""


class FactArguments(TypedDict):
    """A fact to record."""

    subject: str
    predicate: str
    object: str
    valid_from: NotRequired[str]
    valid_to: NotRequired[str]
    confidence: NotRequired[Share]
    source_drawer_id: NotRequired[Annotated[str, Field(description="Drawer that says so")]]


class FactEnd(TypedDict):
    """A fact to end or, with `retract`, to take back because it never was true."""

    subject: str
    predicate: str
    object: str
    ended: NotRequired[str]
    retract: NotRequired[Annotated[bool, Field(default=False)]]
    fact_id: NotRequired[str]


class Succession(TypedDict):
    """A fact to end, and its successor."""

    subject: str
    predicate: str
    old_object: str
    new_object: str
    at: NotRequired[str]
    confidence: NotRequired[Share]
    source_drawer_id: NotRequired[str]


class FactAddedAnswer(TypedDict):
    """The fact, and whether it is new."""

    fact_id: str
    created: bool
    fact: NotRequired[Json]


class QueryAnswer(TypedDict):
    """`resolved` is the entity as stored, or null if there is none. `total` counts facts before the limit.

    If `truncated`, there is more: facts behind `next_cursor`, or, if that is null, entities that were not visited.
    """

    entity: NotRequired[str]
    resolved: str | None
    suggestions: NotRequired[list[str]]
    facts: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    truncated: NotRequired[bool]
    next_cursor: NotRequired[str | None]


class PathAnswer(TypedDict):
    """`source` and `target` as stored, or null; `facts` from one to the other if `found`, in `hops`.

    If `truncated`, not all entities around were visited.
    """

    source: str | None
    target: str | None
    suggestions: NotRequired[list[str]]
    found: bool
    hops: NotRequired[int]
    facts: list[Json]
    truncated: NotRequired[bool]


class InvalidatedAnswer(TypedDict):
    """The fact with its end, or the retracted fact as it was believed."""

    fact_id: NotRequired[str]
    fact: Json


class SupersededAnswer(TypedDict):
    """The fact that holds now, and the one that ended."""

    fact_id: NotRequired[str]
    fact: Json
    superseded: Json


class TimelineAnswer(TypedDict):
    """Facts in the order in which they began."""

    entity: NotRequired[str | None]
    facts: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


class GraphStatisticsAnswer(TypedDict):
    """Sizes of the graph; `predicates` maps the most used ones to their number of facts."""

    entities: NotRequired[int]
    facts: int
    current: NotRequired[int]
    ended: NotRequired[int]
    future: NotRequired[int]
    predicates: NotRequired[Json]
    predicate_count: NotRequired[int]


@tool(
    "Record a fact that holds from valid_from through valid_to (2026-05-08, 2026-05, 2026, today, now or "
    "ISO 8601). created is false if it was known.",
    title="Add fact",
    effect=Effect.WRITE,
    bytes_in_writer=_BYTES_IN_WRITER,
)
def kg_add(call: ToolCall, **fact: Unpack[FactArguments]) -> FactAddedAnswer:
    added = call.palace.kg_add(**fact, deadline=call.deadline)
    return {"fact_id": added.fact.fact_id, "created": added.created, "fact": format_fact(added.fact)}


@tool(
    "Get facts about an entity within depth hops: all, those true as_of a date, or as known_at a date. "
    "Suggests names if unknown.",
    title="Query facts",
)
def kg_query(
    call: ToolCall,
    entity: str,
    as_of: str | None = None,
    known_at: str | None = None,
    direction: Annotated[Direction, Field(strict=False)] = Direction.BOTH,
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 1,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> QueryAnswer:
    query = partial(
        call.palace.kg_query,
        entity,
        as_of=as_of,
        known_at=known_at,
        direction=direction,
        depth=depth,
        cursor=cursor,
    )
    answer = query(limit=limit)
    shown = [format_fact(fact, hops) for fact, hops in zip(answer.facts, answer.depths, strict=True)]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        answer, shown = query(limit=fitting), shown[:fitting]
    return {
        "entity": answer.resolved.asked,
        "resolved": answer.resolved.entity,
        "suggestions": list(answer.resolved.suggestions),
        "facts": shown,
        "count": len(shown),
        "total": answer.total,
        "truncated": answer.truncated or answer.next_cursor is not None,
        "next_cursor": answer.next_cursor,
    }


@tool(
    "Find the shortest chain of facts between two entities (source, target): of all facts, those true as_of a date, "
    "or as known_at a date.",
    title="Path of facts",
)
def kg_path(
    call: ToolCall,
    source: str,
    target: str,
    as_of: str | None = None,
    known_at: str | None = None,
    max_hops: Annotated[int, Field(ge=1, le=MAX_PATH)] = MAX_PATH,
) -> PathAnswer:
    path = call.palace.kg_path(source, target, as_of=as_of, known_at=known_at, max_hops=max_hops)
    facts = [format_fact(fact) for fact in path.facts or ()]
    return {
        "source": path.source.entity,
        "target": path.target.entity,
        "suggestions": [*path.source.suggestions, *path.target.suggestions],
        "found": path.facts is not None,
        "hops": len(facts),
        "facts": facts,
        "truncated": path.truncated,
    }


@tool(
    "Say when a fact ended, by default now; or retract one that never was true (by fact_id if it holds "
    "repeatedly). known_at before still shows it.",
    title="End fact",
    effect=Effect.WRITE,
    bytes_in_writer=_BYTES_IN_WRITER,
)
def kg_invalidate(call: ToolCall, **end: Unpack[FactEnd]) -> InvalidatedAnswer:
    fact = call.palace.kg_invalidate(**end, deadline=call.deadline)
    return {"fact_id": fact.fact_id, "fact": format_fact(fact)}


@tool(
    "End a fact and record its successor, at one instant, by default now; a date: at its end.",
    title="Replace fact",
    effect=Effect.WRITE,
    bytes_in_writer=_BYTES_IN_WRITER,
)
def kg_supersede(call: ToolCall, **succession: Unpack[Succession]) -> SupersededAnswer:
    ended, following = call.palace.kg_supersede(**succession, deadline=call.deadline)
    return {"fact_id": following.fact_id, "fact": format_fact(following), "superseded": format_fact(ended)}


@tool("List facts, ended ones too, by when they began.", title="Timeline")
def kg_timeline(
    call: ToolCall, entity: str | None = None, limit: Limit = 100, cursor: Cursor | None = None
) -> TimelineAnswer:
    page, resolved = call.palace.kg_timeline(entity=entity, limit=limit, cursor=cursor)
    shown = [format_fact(fact) for fact in page.items]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        page, resolved = call.palace.kg_timeline(entity=entity, limit=fitting, cursor=cursor)
        shown = shown[:fitting]
    return {
        "entity": resolved,
        "facts": shown,
        "count": len(shown),
        "total": page.total,
        "next_cursor": page.next_cursor,
    }


@tool("Count entities, facts and predicates.", title="Graph sizes")
def kg_stats(call: ToolCall) -> GraphStatisticsAnswer:
    statistics = call.palace.kg_stats()
    return {
        "entities": statistics.entities,
        "facts": statistics.facts,
        "current": statistics.current,
        "future": statistics.future,
        "ended": statistics.ended,
        "predicates": dict(statistics.predicates),
        "predicate_count": statistics.predicate_count,
    }
