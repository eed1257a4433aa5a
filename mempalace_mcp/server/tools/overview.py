"""The palace as a whole: its rooms, its summary for a new session, its health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import RoomCount
from mempalace_mcp.palace.wake_up import MAX_TOKENS, MIN_TOKENS
from mempalace_mcp.server.tools.answers import QUOTED, Json, Quoting
from mempalace_mcp.server.tools.schema import Arguments, NoArguments
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext

ROOMS_SHOWN = 500


class TaxonomyArguments(Arguments):
    """Which wing, or all."""

    wing: str | None = None


class TaxonomyAnswer(TypedDict):
    """Wings, their rooms, and the live drawers in each: of many rooms (`rooms`) the largest, and then `truncated`."""

    taxonomy: Json
    drawers: int
    rooms: int
    truncated: bool
    hint: NotRequired[str]


class WakeUpArguments(Arguments):
    """For whom, about what, how long."""

    wing: str | None = None
    agent_name: Annotated[str, Field(description="Whose diary")] | None = None
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = 600


class WakeUpAnswer(Quoting):
    """The text to read, and what it is made of."""

    text: str
    tokens: NotRequired[int]
    drawers: NotRequired[int]
    truncated: NotRequired[bool]


class StatusAnswer(TypedDict):
    """How the process and the palace are; `reasons` say in words what is not well."""

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


def get_taxonomy(context: ToolContext, arguments: TaxonomyArguments, deadline: Deadline) -> TaxonomyAnswer:
    taxonomy = context.palace.get_taxonomy(wing=arguments.wing)
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
    """The rooms with most drawers, as many as an answer shows, in the order given."""
    ranked = sorted(range(len(rooms)), key=lambda place: -rooms[place].drawers)
    return [rooms[place] for place in sorted(ranked[:ROOMS_SHOWN])]


def wake_up(context: ToolContext, arguments: WakeUpArguments, deadline: Deadline) -> WakeUpAnswer:
    summary = context.palace.wake_up(
        wing=arguments.wing, agent_name=arguments.agent_name, max_tokens=arguments.max_tokens
    )
    return {
        "text": summary.text,
        "tokens": summary.tokens,
        "drawers": summary.drawers,
        "truncated": summary.truncated,
        "notice": QUOTED,
    }


def status(context: ToolContext, arguments: NoArguments, deadline: Deadline) -> dict[str, Any]:
    return context.status()


def reconnect(context: ToolContext, arguments: NoArguments, deadline: Deadline) -> dict[str, Any]:
    return context.reconnect()


GET_TAXONOMY = Tool(
    name="get_taxonomy",
    title="Taxonomy",
    description="Count the drawers of every wing and room.",
    arguments=TaxonomyArguments,
    answer=TaxonomyAnswer,
    run=get_taxonomy,
    within_wings=True,
)
WAKE_UP = Tool(
    name="wake_up",
    title="Wake up",
    description="Get what a new session needs to know, as one text.",
    arguments=WakeUpArguments,
    answer=WakeUpAnswer,
    run=wake_up,
    within_wings=True,
)
STATUS = Tool(
    name="status",
    title="Status",
    description="Report health, sizes and settings.",
    arguments=NoArguments,
    answer=StatusAnswer,
    run=status,
    within_wings=True,
)
RECONNECT = Tool(
    name="reconnect",
    title="Reconnect",
    description="Close and reopen files and indexes.",
    arguments=NoArguments,
    answer=ReconnectAnswer,
    run=reconnect,
    effect=Effect.MAINTAIN,
)
