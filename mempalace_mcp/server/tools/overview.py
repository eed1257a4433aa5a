"""The palace as a whole: rooms, the summary for a new session, health, and reopening."""

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict, cast

from pydantic import Field

from mempalace_mcp.core.model import RoomCount
from mempalace_mcp.palace.wake_up import MAX_TOKENS, MIN_TOKENS
from mempalace_mcp.server.tools.answers import QUOTED, Json, Quoting
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool

ROOMS_SHOWN = 500


class TaxonomyAnswer(TypedDict):
    """Live drawers by wing and room. `rooms` counts all rooms; if `truncated`, only the largest are shown."""

    taxonomy: Json
    drawers: int
    rooms: int
    truncated: bool
    hint: NotRequired[str]


class WakeUpAnswer(Quoting):
    """The summary, its estimated tokens, and the number of drawers it is about."""

    text: str
    tokens: NotRequired[int]
    drawers: NotRequired[int]
    truncated: NotRequired[bool]


class StatusAnswer(TypedDict):
    """The health of process and palace. `reasons` name what is not well."""

    status: str
    reasons: list[str]
    version: str
    palace: Json
    index: NotRequired[Json]
    process: NotRequired[Json]
    daemon: NotRequired[Json]
    warnings: NotRequired[list[str]]


class ReconnectAnswer(TypedDict):
    """The stores before and after."""

    before: Json
    after: Json


@tool("Count the drawers of every wing and room.", title="Taxonomy", within_wings=True)
def get_taxonomy(call: ToolCall, wing: str | None = None) -> TaxonomyAnswer:
    taxonomy = call.palace.get_taxonomy(wing=wing)
    wings: dict[str, dict[str, int]] = {}
    shown = largest(taxonomy.rooms)
    for count in shown:
        wings.setdefault(count.wing, {})[count.room] = count.drawers
    answer = TaxonomyAnswer(
        taxonomy=wings,
        drawers=taxonomy.drawers,
        rooms=len(taxonomy.rooms),
        truncated=len(shown) < len(taxonomy.rooms),
    )
    hint = f"The {ROOMS_SHOWN} largest rooms are shown: name a wing to see those of one."
    return {**answer, "hint": hint} if answer["truncated"] else answer


def largest(rooms: Sequence[RoomCount]) -> list[RoomCount]:
    """The rooms with most drawers, as many as an answer shows, in their given order."""
    ranked = sorted(range(len(rooms)), key=lambda place: -rooms[place].drawers)
    return [rooms[place] for place in sorted(ranked[:ROOMS_SHOWN])]


@tool("Get what a new session needs to know, as one text.", within_wings=True)
def wake_up(
    call: ToolCall,
    wing: str | None = None,
    agent_name: Annotated[str, Field(description="Whose diary")] | None = None,
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = 600,
) -> WakeUpAnswer:
    summary = call.palace.wake_up(wing=wing, agent_name=agent_name, max_tokens=max_tokens)
    return {
        "text": summary.text,
        "tokens": summary.tokens,
        "drawers": summary.drawers,
        "truncated": summary.truncated,
        "notice": QUOTED,
    }


@tool("Report health, sizes and settings.", within_wings=True)
def status(call: ToolCall) -> StatusAnswer:
    return cast(StatusAnswer, call.context.status())


@tool("Close and reopen files and indexes.", effect=Effect.MAINTAIN)
def reconnect(call: ToolCall) -> ReconnectAnswer:
    return cast(ReconnectAnswer, call.context.reconnect())
