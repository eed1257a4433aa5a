"""Many drawers, facts and a diary entry in one transaction."""

from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.model import CheckpointItem
from mempalace_mcp.palace.arguments import MAX_ITEMS
from mempalace_mcp.server.tools.answers import Json, present
from mempalace_mcp.server.tools.diary import EntryArguments, format_entry_head
from mempalace_mcp.server.tools.drawers import DrawerArguments
from mempalace_mcp.server.tools.graph import FactArguments
from mempalace_mcp.server.tools.schema import Nested
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool


class CheckpointArguments(TypedDict):
    """Drawers, facts and a diary entry to store, all or nothing."""

    items: NotRequired[Annotated[list[Annotated[DrawerArguments, Nested()]], Field(max_length=MAX_ITEMS)]]
    facts: NotRequired[Annotated[list[Annotated[FactArguments, Nested()]], Field(max_length=MAX_ITEMS)]]
    diary: NotRequired[Annotated[EntryArguments, Nested()]]
    added_by: NotRequired[Annotated[str, Field(description="Of items that do not say")]]


class CheckpointAnswer(TypedDict):
    """The outcome of each item, in the order given."""

    drawers: list[Json]
    facts: list[Json]
    diary: NotRequired[Json | None]


@tool(
    "Store drawers, facts and a diary entry, all or nothing. Returns ids in order.",
    effect=Effect.WRITE,
    idempotent=False,
    within_wings=True,
)
def checkpoint(call: ToolCall, **parts: Unpack[CheckpointArguments]) -> CheckpointAnswer:
    report = call.palace.checkpoint(**parts, deadline=call.deadline)
    return {
        "drawers": [_format_item("drawer_id", item) for item in report.drawers],
        "facts": [_format_item("fact_id", item) for item in report.facts],
        "diary": {**format_entry_head(report.diary)} if report.diary else None,
    }


def _format_item(key: str, item: CheckpointItem) -> Json:
    return present({key: item.id, "created": item.created, "near_duplicate_of": item.near_duplicate_of})
