"""Search, and the search for duplicates."""

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.model import Duplicate, Hit, SearchMode, SearchResult
from mempalace_mcp.palace.search import MAX_TOKENS, MIN_TOKENS
from mempalace_mcp.server.tools.answers import (
    LISTING_TOKENS,
    Json,
    Quoting,
    count_fitting,
    format_passage,
    format_place,
    format_preview,
    present,
    quoting,
    rounded,
)
from mempalace_mcp.server.tools.schema import Content, Limit, Query, Share
from mempalace_mcp.server.tools.tool import ToolCall, tool

MOST_COPIES = 10
"""Ids of near copies that a hit lists."""


class SearchFilters(TypedDict):
    """Which drawers to search."""

    wing: NotRequired[Annotated[str, Field(description="Project or person")]]
    room: NotRequired[Annotated[str, Field(description="Topic")]]
    source_file: NotRequired[Annotated[str, Field(description="Origin")]]
    since: NotRequired[Annotated[str, Field(description="Date, or as `last week`")]]
    before: NotRequired[Annotated[str, Field(description="Exclusive")]]


class SearchAnswer(Quoting):
    """Hits, best first. `degraded` says which side of the search is missing, if one is."""

    results: list[Json]
    count: NotRequired[int]
    confidence: NotRequired[float]
    nothing_covers: NotRequired[bool]
    mode: NotRequired[str]
    degraded: str | None
    pending: NotRequired[int]
    truncated: NotRequired[bool]
    hint: NotRequired[str]


class CheckDuplicateAnswer(Quoting):
    """Drawers with the same or nearly the same text, best first."""

    is_duplicate: bool
    matches: list[Json]
    degraded: NotRequired[str | None]


@tool(
    "Find passages by meaning and exact words; {get_drawers} has the whole.",
    within_wings=True,
)
def search(
    call: ToolCall,
    query: Query,
    *,
    limit: Limit = 5,
    mode: Annotated[SearchMode, Field(strict=False)] = SearchMode.HYBRID,
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] | None = None,
    min_score: Share | None = None,
    explain: bool | None = None,
    now: Annotated[str, Field(description="As of when")] | None = None,
    **filters: Unpack[SearchFilters],
) -> SearchAnswer:
    result = call.palace.search(
        query,
        **filters,
        limit=limit,
        mode=mode,
        max_tokens=max_tokens,
        min_score=min_score,
        explain=bool(explain),
        now=now,
    )
    hits = [_format_hit(hit) for hit in result.hits]
    shown = hits[: count_fitting(hits, LISTING_TOKENS)] if max_tokens is None else hits
    answer = SearchAnswer(
        results=shown,
        count=len(shown),
        confidence=rounded(result.confidence),
        nothing_covers=result.nothing_covers,
        mode=result.mode.value,
        degraded=result.degraded,
        pending=result.pending,
        truncated=result.truncated or len(shown) < len(hits),
    )
    quoted: SearchAnswer = {**answer, **quoting(shown)}
    hint = _TOO_LONG if len(shown) < len(hits) else _hint(result)
    return {**quoted, "hint": hint} if hint else quoted


def _format_hit(hit: Hit) -> Json:
    scores = {
        "score": rounded(hit.score),
        "semantic": None if hit.semantic is None else rounded(hit.semantic),
        "lexical": None if hit.lexical is None else rounded(hit.lexical),
        "confidence": rounded(hit.confidence),
        "explanation": None if hit.explanation is None else _format_explanation(hit.explanation),
    }
    copies = {"copies": len(hit.copies), "copy_ids": list(hit.copies[:MOST_COPIES])} if hit.copies else {}
    return present(format_place(hit.drawer) | format_passage(hit) | scores | copies)


def _format_explanation(parts: Mapping[str, float]) -> Json:
    """The parts of a score that are not zero."""
    return {name: rounded(part) for name, part in parts.items() if rounded(part)}


_UNCOVERED = "Probably nothing here answers this; the nearest are shown."
_TOO_LONG = "Cut to what clients take: give max_tokens to see more, or filters to see others."


def _hint(result: SearchResult) -> str | None:
    if result.truncated:
        return "Cut to max_tokens: raise it to see more, or get the whole drawers by their ids."
    if result.hits:
        return _UNCOVERED if result.nothing_covers else None
    if result.confidence:
        return "All hits are below min_score: lower it, or leave it out."
    if result.mode is SearchMode.KEYWORD or result.degraded or result.pending:
        return "Nothing was found. Use other words, or fewer filters."
    return "The palace is empty, or the filters leave nothing of it: get_taxonomy names the wings and rooms."


@tool("Find the drawers that say the same as a text, or nearly.", within_wings=True)
def check_duplicate(
    call: ToolCall,
    content: Content,
    threshold: Annotated[Share, Field(description="Least similarity")] = 0.9,
    wing: str | None = None,
    room: str | None = None,
) -> CheckDuplicateAnswer:
    report = call.palace.check_duplicate(content, threshold=threshold, wing=wing, room=room)
    return {
        "is_duplicate": bool(report.matches),
        "matches": [_format_match(match) for match in report.matches],
        "degraded": report.degraded,
        **quoting(report.matches),
    }


def _format_match(match: Duplicate) -> Json:
    return {**format_preview(match.drawer), "kind": match.kind, "similarity": rounded(match.similarity)}
