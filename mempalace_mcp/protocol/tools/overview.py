"""The palace as a whole: its rooms, its summary for a new session, its health."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.palace.waking import MAX_TOKENS, MIN_TOKENS
from mempalace_mcp.protocol.tools.answers import QUOTED, Json, Quoting
from mempalace_mcp.protocol.tools.arguments import Arguments, NoArguments
from mempalace_mcp.protocol.tools.context import ToolContext
from mempalace_mcp.protocol.tools.tool import Effect, Tool


class TaxonomyArguments(Arguments):
    """Which wing, or all."""

    wing: str | None = None


class TaxonomyAnswer(TypedDict):
    """Wings, their rooms, and the live drawers in each."""

    taxonomy: Json
    drawers: NotRequired[int]


class WakeUpArguments(Arguments):
    """For whom, about what, how long."""

    wing: str | None = None
    agent_name: str | None = None
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = 600


class WakeUpAnswer(Quoting):
    """The text to read, and what it is made of."""

    text: str
    tokens: NotRequired[int]
    drawers: NotRequired[int]
    truncated: NotRequired[bool]


class ProcessAnswer(TypedDict):
    """Whatever the process tells of itself."""


def get_taxonomy(context: ToolContext, arguments: TaxonomyArguments, deadline: Deadline) -> TaxonomyAnswer:
    taxonomy = context.palace.get_taxonomy(wing=arguments.wing)
    wings: dict[str, dict[str, int]] = {}
    for count in taxonomy.rooms:
        wings.setdefault(count.wing, {})[count.room] = count.drawers
    return {"taxonomy": wings, "drawers": taxonomy.drawers}


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
    answer=ProcessAnswer,
    run=status,
    within_wings=True,
)
RECONNECT = Tool(
    name="reconnect",
    title="Reconnect",
    description="Close and reopen files and indexes. Returns before and after.",
    arguments=NoArguments,
    answer=ProcessAnswer,
    run=reconnect,
    effect=Effect.MAINTAIN,
)
