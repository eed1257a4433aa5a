"""The knowledge graph: facts that begin, hold and end."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import Direction, Fact, GraphAnswer, Page
from mempalace_mcp.palace.facts import MAX_DEPTH
from mempalace_mcp.server.tools.answers import LISTING_TOKENS, Json, count_fitting, fact_shown
from mempalace_mcp.server.tools.schema import Arguments, Cursor, DrawerId, Limit, NoArguments, Share
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext


class FactArguments(Arguments):
    """A fact to record."""

    subject: str
    predicate: str
    object: str
    valid_from: str | None = None
    valid_to: str | None = None
    confidence: Share | None = None
    source_drawer_id: Annotated[DrawerId, Field(description="Drawer that says so")] | None = None


class FactAddedAnswer(TypedDict):
    """The fact, and whether it is new."""

    fact_id: str
    created: bool
    fact: NotRequired[Json]


class QueryArguments(Arguments):
    """Whose facts, true when, known when."""

    entity: str
    as_of: str | None = None
    known_at: str | None = None
    direction: Annotated[Direction, Field(strict=False)] = Direction.BOTH
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 1
    limit: Limit = 100
    cursor: Cursor | None = None


class QueryAnswer(TypedDict):
    """`resolved` is the entity as stored, or null if there is none; `total` counts facts before the limit.

    `truncated`: there is more. `next_cursor` leads to it; if that is null, there are more entities around than were
    visited.
    """

    entity: NotRequired[str]
    resolved: str | None
    suggestions: NotRequired[list[str]]
    facts: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    truncated: NotRequired[bool]
    next_cursor: NotRequired[str | None]


class InvalidateArguments(Arguments):
    """Which fact ended, and when, or that it never was true."""

    subject: str
    predicate: str
    object: str
    ended: str | None = None
    retract: bool = False
    fact_id: str | None = None


class InvalidatedAnswer(TypedDict):
    """The fact with its end, or as it was believed until it was retracted."""

    fact_id: NotRequired[str]
    fact: Json


class SupersedeArguments(Arguments):
    """Which fact gives way to which, and when."""

    subject: str
    predicate: str
    old_object: str
    new_object: str
    at: str | None = None
    confidence: Share | None = None
    source_drawer_id: DrawerId | None = None


class SupersededAnswer(TypedDict):
    """The fact that holds now, and the one that ended."""

    fact_id: NotRequired[str]
    fact: Json
    superseded: Json


class TimelineArguments(Arguments):
    """Whose facts, and which page of them."""

    entity: str | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


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


def kg_add(context: ToolContext, arguments: FactArguments, deadline: Deadline) -> FactAddedAnswer:
    added = context.palace.kg_add(
        arguments.subject,
        arguments.predicate,
        arguments.object,
        valid_from=arguments.valid_from,
        valid_to=arguments.valid_to,
        confidence=arguments.confidence,
        source_drawer_id=arguments.source_drawer_id,
        deadline=deadline,
    )
    return {"fact_id": added.fact.fact_id, "created": added.created, "fact": fact_shown(added.fact)}


def kg_query(context: ToolContext, arguments: QueryArguments, deadline: Deadline) -> QueryAnswer:
    answer = _query(context, arguments, arguments.limit)
    shown = [fact_shown(fact, depth) for fact, depth in zip(answer.facts, answer.depths, strict=True)]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        answer, shown = _query(context, arguments, fitting), shown[:fitting]
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


def _query(context: ToolContext, arguments: QueryArguments, limit: int) -> GraphAnswer:
    return context.palace.kg_query(
        arguments.entity,
        as_of=arguments.as_of,
        known_at=arguments.known_at,
        direction=arguments.direction,
        depth=arguments.depth,
        limit=limit,
        cursor=arguments.cursor,
    )


def kg_invalidate(context: ToolContext, arguments: InvalidateArguments, deadline: Deadline) -> InvalidatedAnswer:
    fact = context.palace.kg_invalidate(
        arguments.subject,
        arguments.predicate,
        arguments.object,
        ended=arguments.ended,
        retract=arguments.retract,
        fact_id=arguments.fact_id,
        deadline=deadline,
    )
    return {"fact_id": fact.fact_id, "fact": fact_shown(fact)}


def kg_supersede(context: ToolContext, arguments: SupersedeArguments, deadline: Deadline) -> SupersededAnswer:
    ended, following = context.palace.kg_supersede(
        arguments.subject,
        arguments.predicate,
        arguments.old_object,
        arguments.new_object,
        at=arguments.at,
        confidence=arguments.confidence,
        source_drawer_id=arguments.source_drawer_id,
        deadline=deadline,
    )
    return {"fact_id": following.fact_id, "fact": fact_shown(following), "superseded": fact_shown(ended)}


def kg_timeline(context: ToolContext, arguments: TimelineArguments, deadline: Deadline) -> TimelineAnswer:
    page, entity = _timeline(context, arguments, arguments.limit)
    shown = [fact_shown(fact) for fact in page.items]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        (page, entity), shown = _timeline(context, arguments, fitting), shown[:fitting]
    return {
        "entity": entity,
        "facts": shown,
        "count": len(shown),
        "total": page.total,
        "next_cursor": page.next_cursor,
    }


def _timeline(context: ToolContext, arguments: TimelineArguments, limit: int) -> tuple[Page[Fact], str | None]:
    return context.palace.kg_timeline(entity=arguments.entity, limit=limit, cursor=arguments.cursor)


def kg_stats(context: ToolContext, arguments: NoArguments, deadline: Deadline) -> GraphStatisticsAnswer:
    statistics = context.palace.kg_stats()
    return {
        "entities": statistics.entities,
        "facts": statistics.facts,
        "current": statistics.current,
        "future": statistics.future,
        "ended": statistics.ended,
        "predicates": dict(statistics.predicates),
        "predicate_count": statistics.predicate_count,
    }


KG_ADD = Tool(
    name="kg_add",
    title="Add fact",
    description="Record a fact that holds from valid_from through valid_to (2026-05-08, 2026-05, 2026, today, now or "
    "ISO 8601). Returns it; created false if it was known.",
    arguments=FactArguments,
    answer=FactAddedAnswer,
    run=kg_add,
    effect=Effect.WRITE,
    brief=True,
)
KG_QUERY = Tool(
    name="kg_query",
    title="Query facts",
    description="Get facts about an entity within depth hops: all, those true as_of a date, or as known_at a date. "
    "Suggests names if unknown.",
    arguments=QueryArguments,
    answer=QueryAnswer,
    run=kg_query,
)
KG_INVALIDATE = Tool(
    name="kg_invalidate",
    title="End fact",
    description="Say when a fact ended, by default now; or retract one that never was true (by fact_id if it holds "
    "repeatedly). Returns it; known_at before still shows it.",
    arguments=InvalidateArguments,
    answer=InvalidatedAnswer,
    run=kg_invalidate,
    effect=Effect.WRITE,
    brief=True,
)
KG_SUPERSEDE = Tool(
    name="kg_supersede",
    title="Replace fact",
    description="End a fact and record its successor, at one instant, by default now; a date: at its end. "
    "Returns both.",
    arguments=SupersedeArguments,
    answer=SupersededAnswer,
    run=kg_supersede,
    effect=Effect.WRITE,
    brief=True,
)
KG_TIMELINE = Tool(
    name="kg_timeline",
    title="Timeline",
    description="List facts, ended ones too, by when they began.",
    arguments=TimelineArguments,
    answer=TimelineAnswer,
    run=kg_timeline,
)
KG_STATS = Tool(
    name="kg_stats",
    title="Graph sizes",
    description="Count entities, facts and predicates.",
    arguments=NoArguments,
    answer=GraphStatisticsAnswer,
    run=kg_stats,
)
