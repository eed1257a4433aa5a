"""Many drawers, facts and a diary entry in one transaction."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import CheckpointItem
from mempalace_mcp.palace.arguments import MAX_IDS
from mempalace_mcp.server.tools.answers import Json, present
from mempalace_mcp.server.tools.diary import EntryArguments, written_entry
from mempalace_mcp.server.tools.drawers import DrawerArguments
from mempalace_mcp.server.tools.graph import FactArguments
from mempalace_mcp.server.tools.schema import Arguments
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext


class CheckpointArguments(Arguments):
    """What to keep, all of it or nothing."""

    items: Annotated[list[DrawerArguments], Field(max_length=MAX_IDS)] = Field(default_factory=list)
    facts: Annotated[list[FactArguments], Field(max_length=MAX_IDS)] = Field(default_factory=list)
    diary: EntryArguments | None = None
    added_by: Annotated[str, Field(description="Of items that do not say")] | None = None


class CheckpointAnswer(TypedDict):
    """What was stored, in the order given."""

    drawers: list[Json]
    facts: list[Json]
    diary: NotRequired[Json | None]


def checkpoint(context: ToolContext, arguments: CheckpointArguments, deadline: Deadline) -> CheckpointAnswer:
    report = context.palace.checkpoint(
        [item.given() for item in arguments.items],
        facts=[fact.given() for fact in arguments.facts],
        diary=arguments.diary.given() if arguments.diary else None,
        added_by=arguments.added_by,
        deadline=deadline,
    )
    return {
        "drawers": [_stored("drawer_id", item) for item in report.drawers],
        "facts": [_stored("fact_id", item) for item in report.facts],
        "diary": {**written_entry(report.diary)} if report.diary else None,
    }


def _stored(key: str, item: CheckpointItem) -> Json:
    return present({key: item.id, "created": item.created, "near_duplicate_of": item.near_duplicate_of})


CHECKPOINT = Tool(
    name="checkpoint",
    title="Checkpoint",
    description="Store drawers, facts and a diary entry, all or nothing. Returns ids in order.",
    arguments=CheckpointArguments,
    answer=CheckpointAnswer,
    run=checkpoint,
    effect=Effect.WRITE,
    idempotent=False,
    within_wings=True,
)
