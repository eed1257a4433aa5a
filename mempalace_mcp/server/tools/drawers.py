"""Filing, reading, changing, deleting and restoring drawers."""

from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.clock import Instant, format_instant
from mempalace_mcp.core.model import Deletion
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.arguments import MAX_IDS
from mempalace_mcp.palace.privacy import secrets_in
from mempalace_mcp.server.tools.answers import (
    LISTING_TOKENS,
    MAX_TOKENS,
    MIN_TOKENS,
    TOKENS,
    Json,
    Quoting,
    count_fitting,
    format_preview,
    part_of,
    quoting,
)
from mempalace_mcp.server.tools.schema import Content, Cursor, Ids, Limit, Metadata
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool


class DrawerArguments(TypedDict):
    """A text to file."""

    wing: str
    room: str
    content: Content
    source_file: NotRequired[str]
    added_by: NotRequired[Annotated[str, Field(description="Who files it")]]
    occurred_at: NotRequired[Annotated[str, Field(description="Date of what it tells")]]
    metadata: NotRequired[Metadata]
    supersedes: NotRequired[Annotated[list[str], Field(max_length=MAX_IDS, description="Ids of what it corrects")]]


class DrawerUpdate(TypedDict):
    """Fields to replace; absent ones stay."""

    content: NotRequired[Content]
    wing: NotRequired[str]
    room: NotRequired[str]
    source_file: NotRequired[str]
    occurred_at: NotRequired[str]
    metadata: NotRequired[Metadata]
    superseded_by: NotRequired[Annotated[str, Field(description="Id of its correction, or none")]]


class DrawerFilters(TypedDict):
    """Which drawers to list or delete."""

    wing: NotRequired[str]
    room: NotRequired[str]
    source_file: NotRequired[str]
    since: NotRequired[str]
    before: NotRequired[str]


class AddDrawerAnswer(TypedDict):
    """The drawer. If `pending`, search finds it by its words at once, by its meaning a moment later."""

    drawer_id: str
    created: bool
    wing: NotRequired[str]
    room: NotRequired[str]
    pending: NotRequired[bool]
    near_duplicate_of: NotRequired[str]
    warning: NotRequired[str]


class GetDrawersAnswer(Quoting):
    """The drawers in the order of the ids, and the ids of no live drawer.

    `characters` is the length of the whole content, `offset` where the shown part begins if it is not the first.
    """

    drawers: list[Json]
    count: int
    missing: list[str]
    next_offset: int | None
    hint: NotRequired[str]


class ListDrawersAnswer(Quoting):
    """One page; `total` counts all that match."""

    drawers: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


class UpdateDrawerAnswer(TypedDict):
    """The drawer's place and version after the update."""

    drawer_id: str
    version: int
    wing: NotRequired[str]
    room: NotRequired[str]
    updated_at: NotRequired[str]


class DeleteDrawersAnswer(TypedDict):
    """The outcome of a deletion or of its dry run."""

    matched: NotRequired[int]
    deleted: int
    dry_run: bool
    missing: NotRequired[list[str]]
    sample: NotRequired[list[Json]]
    hint: NotRequired[str]


class RestoreDrawersAnswer(TypedDict):
    """The ids of drawers that are live again, and those that are not in the trash."""

    restored: list[str]
    missing: list[str]


_LOOKED_THROUGH = 32_768
"""Characters of a text in which secrets are looked for. It bounds the time of the worst texts."""

_BYTES_IN_WRITER = 1024
"""Of a call. A text of three times the length is cut into chunks and read for words for so long that eight clients that
file such file a sixth less, and facts beside them take half as long again."""


@tool(
    "File a text verbatim in a room (topic) of a wing (project, person). Created is false if it was there.",
    effect=Effect.WRITE,
    within_wings=True,
    bytes_in_writer=_BYTES_IN_WRITER,
)
def add_drawer(call: ToolCall, **drawer: Unpack[DrawerArguments]) -> AddDrawerAnswer:
    filed = call.palace.add_drawer(**drawer, deadline=call.deadline)
    answer = AddDrawerAnswer(
        drawer_id=filed.drawer_id,
        created=filed.created,
        wing=drawer["wing"].strip(),
        room=drawer["room"].strip(),
        pending=filed.created,
    )
    if filed.near_duplicate_of:
        answer["near_duplicate_of"] = filed.near_duplicate_of
    if secrets := secrets_in(drawer["content"][:_LOOKED_THROUGH]):
        answer["warning"] = (
            f"It looks as if it held a secret ({secrets[0].kind}). Filed verbatim; delete it if that is wrong."
        )
    return answer


@tool("Read drawers by their ids, verbatim, with metadata; long ones in parts.", within_wings=True)
def get_drawers(
    call: ToolCall,
    drawer_ids: Ids,
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = TOKENS,
    offset: Annotated[int, Field(ge=0, le=MAX_IDS * MAX_CONTENT_BYTES, description="The next_offset")] = 0,
) -> GetDrawersAnswer:
    found = call.palace.get_drawers(drawer_ids)
    part = part_of(found.drawers, offset, max_tokens)
    answer = GetDrawersAnswer(
        drawers=list(part.drawers),
        count=len(part.drawers),
        missing=list(found.missing),
        next_offset=part.next_offset,
    )
    quoted: GetDrawersAnswer = {**answer, **quoting(part.drawers)}
    if part.next_offset is None:
        return quoted
    return {**quoted, "hint": f"There is more: call again with the same drawer_ids and offset {part.next_offset}."}


@tool("List drawers, newest first: how each begins, and the total.", within_wings=True)
def list_drawers(
    call: ToolCall, *, limit: Limit = 20, cursor: Cursor | None = None, **filters: Unpack[DrawerFilters]
) -> ListDrawersAnswer:
    page = call.palace.list_drawers(**filters, limit=limit, cursor=cursor)
    shown = [format_preview(drawer) for drawer in page.items]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        page = call.palace.list_drawers(**filters, limit=fitting, cursor=cursor)
        shown = shown[:fitting]
    return {
        "drawers": shown,
        "count": len(shown),
        "total": page.total,
        "next_cursor": page.next_cursor,
        **quoting(page.items),
    }


@tool(
    "Replace content, place or metadata of a drawer; the old version is kept.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def update_drawer(call: ToolCall, drawer_id: str, **changes: Unpack[DrawerUpdate]) -> UpdateDrawerAnswer:
    drawer = call.palace.update_drawer(drawer_id, **changes, deadline=call.deadline)
    return {
        "drawer_id": drawer.drawer_id,
        "version": drawer.version,
        "wing": drawer.wing,
        "room": drawer.room,
        "updated_at": format_instant(drawer.updated_at),
    }


@tool(
    "Delete drawers by ids, or by filters: a dry run unless dry_run is false. {restore_drawers} undoes it.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def delete_drawers(
    call: ToolCall,
    drawer_ids: Ids | None = None,
    *,
    dry_run: bool | None = None,
    **filters: Unpack[DrawerFilters],
) -> DeleteDrawersAnswer:
    return answer_deletion(
        call.palace.delete_drawers(drawer_ids=drawer_ids, **filters, dry_run=dry_run, deadline=call.deadline)
    )


def answer_deletion(deletion: Deletion) -> DeleteDrawersAnswer:
    """What a tool answers that deletes, with the way back."""
    answer = DeleteDrawersAnswer(
        matched=deletion.matched,
        deleted=deletion.deleted,
        dry_run=deletion.dry_run,
        missing=list(deletion.missing),
        sample=[format_preview(drawer) for drawer in deletion.sample],
    )
    hint = _deletion_hint(deletion)
    return {**answer, "hint": hint} if hint else answer


def _deletion_hint(deletion: Deletion) -> str | None:
    if deletion.dry_run and deletion.matched:
        which = f"{deletion.matched}{times(deletion.since, deletion.before)}"
        return f"Nothing was deleted. Call again with dry_run false to delete {which}."
    if deletion.deleted:
        return "Deleted drawers can be restored by their ids until the trash is emptied."
    return None


def times(since: Instant | None, before: Instant | None) -> str:
    """The instants as which `since` and `before` were understood."""
    told = (("since", since), ("before", before))
    return "".join(f" {name} {format_instant(instant)}" for name, instant in told if instant is not None)


@tool("Bring deleted drawers back.", effect=Effect.WRITE, within_wings=True)
def restore_drawers(call: ToolCall, drawer_ids: Ids) -> RestoreDrawersAnswer:
    restoration = call.palace.restore_drawers(drawer_ids, deadline=call.deadline)
    return {"restored": list(restoration.restored), "missing": list(restoration.missing)}
