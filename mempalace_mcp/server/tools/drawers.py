"""Filing, reading, changing, deleting and restoring drawers."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from pydantic import Field

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.model import Deletion, Drawer, Page
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.arguments import MAX_IDS
from mempalace_mcp.server.tools.answers import (
    LISTING_TOKENS,
    MAX_TOKENS,
    MIN_TOKENS,
    TOKENS,
    Json,
    Quoting,
    count_fitting,
    drawer_preview,
    part_of,
    quoting,
)
from mempalace_mcp.server.tools.schema import Arguments, Content, Cursor, Ids, Limit, Metadata
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext


class DrawerArguments(Arguments):
    """A text to file."""

    wing: str
    room: str
    content: Content
    source_file: str | None = None
    added_by: Annotated[str, Field(description="Who files it")] | None = None
    occurred_at: Annotated[str, Field(description="Date of what it tells")] | None = None
    metadata: Metadata | None = None


class AddDrawerAnswer(TypedDict):
    """`pending`: found by its words at once, by its meaning a moment later."""

    drawer_id: str
    created: bool
    wing: NotRequired[str]
    room: NotRequired[str]
    pending: NotRequired[bool]
    near_duplicate_of: NotRequired[str]


class DrawerIdsArguments(Arguments):
    """Which drawers."""

    drawer_ids: Ids


class GetDrawersArguments(Arguments):
    """Which drawers, and which part of them."""

    drawer_ids: Ids
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = TOKENS
    offset: Annotated[int, Field(ge=0, le=MAX_IDS * MAX_CONTENT_BYTES, description="The next_offset")] = 0


class GetDrawersAnswer(Quoting):
    """The drawers in the order asked for, and the ids that no live drawer has.

    Each tells how many `characters` the whole has, and at which `offset` the content begins if it is a part.
    """

    drawers: list[Json]
    count: int
    missing: list[str]
    next_offset: int | None
    hint: NotRequired[str]


class ListDrawersArguments(Arguments):
    """Which drawers, and which page of them."""

    wing: str | None = None
    room: str | None = None
    source_file: str | None = None
    since: str | None = None
    before: str | None = None
    limit: Limit = 20
    cursor: Cursor | None = None


class ListDrawersAnswer(Quoting):
    """One page; `total` counts all that match."""

    drawers: list[Json]
    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


class UpdateDrawerArguments(Arguments):
    """What to replace; the rest stays."""

    drawer_id: str
    content: Content | None = None
    wing: str | None = None
    room: str | None = None
    source_file: str | None = None
    occurred_at: str | None = None
    metadata: Metadata | None = None


class UpdateDrawerAnswer(TypedDict):
    """Where the drawer stands now, and which version it is."""

    drawer_id: str
    version: int
    wing: NotRequired[str]
    room: NotRequired[str]
    updated_at: NotRequired[str]


class DeleteDrawersArguments(Arguments):
    """Which drawers: their ids, or filters."""

    drawer_ids: Ids | None = None
    wing: str | None = None
    room: str | None = None
    source_file: str | None = None
    since: str | None = None
    before: str | None = None
    dry_run: bool | None = None


class DeleteDrawersAnswer(TypedDict):
    """What was deleted or, as a dry run, would be."""

    matched: NotRequired[int]
    deleted: int
    dry_run: bool
    missing: NotRequired[list[str]]
    sample: NotRequired[list[Json]]
    hint: NotRequired[str]


class RestoreDrawersAnswer(TypedDict):
    """Which drawers are live again, and which ids are not in the trash."""

    restored: list[str]
    missing: list[str]


def add_drawer(context: ToolContext, arguments: DrawerArguments, deadline: Deadline) -> AddDrawerAnswer:
    filed = context.palace.add_drawer(
        arguments.wing,
        arguments.room,
        arguments.content,
        source_file=arguments.source_file,
        added_by=arguments.added_by,
        occurred_at=arguments.occurred_at,
        metadata=arguments.metadata,
        deadline=deadline,
    )
    answer = AddDrawerAnswer(
        drawer_id=filed.drawer_id,
        created=filed.created,
        wing=arguments.wing.strip(),
        room=arguments.room.strip(),
        pending=filed.created,
    )
    return {**answer, "near_duplicate_of": filed.near_duplicate_of} if filed.near_duplicate_of else answer


def get_drawers(context: ToolContext, arguments: GetDrawersArguments, deadline: Deadline) -> GetDrawersAnswer:
    found = context.palace.get_drawers(arguments.drawer_ids)
    part = part_of(found.drawers, arguments.offset, arguments.max_tokens)
    answer = GetDrawersAnswer(
        drawers=list(part.drawers),
        count=len(part.drawers),
        missing=list(found.missing),
        next_offset=part.next_offset,
    )
    told: GetDrawersAnswer = {**answer, **quoting(part.drawers)}
    if part.next_offset is None:
        return told
    return {**told, "hint": f"There is more: call again with the same drawer_ids and offset {part.next_offset}."}


def list_drawers(context: ToolContext, arguments: ListDrawersArguments, deadline: Deadline) -> ListDrawersAnswer:
    page = _page(context, arguments, arguments.limit)
    shown = [drawer_preview(drawer) for drawer in page.items]
    fitting = count_fitting(shown, LISTING_TOKENS)
    if fitting < len(shown):
        page, shown = _page(context, arguments, fitting), shown[:fitting]
    return {
        "drawers": shown,
        "count": len(shown),
        "total": page.total,
        "next_cursor": page.next_cursor,
        **quoting(page.items),
    }


def _page(context: ToolContext, arguments: ListDrawersArguments, limit: int) -> Page[Drawer]:
    return context.palace.list_drawers(
        wing=arguments.wing,
        room=arguments.room,
        source_file=arguments.source_file,
        since=arguments.since,
        before=arguments.before,
        limit=limit,
        cursor=arguments.cursor,
    )


def update_drawer(context: ToolContext, arguments: UpdateDrawerArguments, deadline: Deadline) -> UpdateDrawerAnswer:
    drawer = context.palace.update_drawer(
        arguments.drawer_id,
        content=arguments.content,
        wing=arguments.wing,
        room=arguments.room,
        source_file=arguments.source_file,
        occurred_at=arguments.occurred_at,
        metadata=arguments.metadata,
        deadline=deadline,
    )
    return {
        "drawer_id": drawer.drawer_id,
        "version": drawer.version,
        "wing": drawer.wing,
        "room": drawer.room,
        "updated_at": format_instant(drawer.updated_at),
    }


def delete_drawers(context: ToolContext, arguments: DeleteDrawersArguments, deadline: Deadline) -> DeleteDrawersAnswer:
    deletion = context.palace.delete_drawers(
        drawer_ids=arguments.drawer_ids,
        wing=arguments.wing,
        room=arguments.room,
        source_file=arguments.source_file,
        since=arguments.since,
        before=arguments.before,
        dry_run=arguments.dry_run,
        deadline=deadline,
    )
    answer = DeleteDrawersAnswer(
        matched=deletion.matched,
        deleted=deletion.deleted,
        dry_run=deletion.dry_run,
        missing=list(deletion.missing),
        sample=[drawer_preview(drawer) for drawer in deletion.sample],
    )
    hint = _deletion_hint(deletion)
    return {**answer, "hint": hint} if hint else answer


def _deletion_hint(deletion: Deletion) -> str | None:
    if deletion.dry_run and deletion.matched:
        return f"Nothing was deleted. Call again with dry_run false to delete {deletion.matched}."
    if deletion.deleted:
        return "Deleted drawers can be restored by their ids until the trash is emptied."
    return None


def restore_drawers(context: ToolContext, arguments: DrawerIdsArguments, deadline: Deadline) -> RestoreDrawersAnswer:
    restoration = context.palace.restore_drawers(arguments.drawer_ids, deadline=deadline)
    return {"restored": list(restoration.restored), "missing": list(restoration.missing)}


ADD_DRAWER = Tool(
    name="add_drawer",
    title="Add drawer",
    description="File a text verbatim in a room (topic) of a wing (project, person). Created is false if it was there.",
    arguments=DrawerArguments,
    answer=AddDrawerAnswer,
    run=add_drawer,
    effect=Effect.WRITE,
    within_wings=True,
)
GET_DRAWERS = Tool(
    name="get_drawers",
    title="Get drawers",
    description="Read drawers by their ids, verbatim, with metadata; long ones in parts.",
    arguments=GetDrawersArguments,
    answer=GetDrawersAnswer,
    run=get_drawers,
    within_wings=True,
)
LIST_DRAWERS = Tool(
    name="list_drawers",
    title="List drawers",
    description="List drawers, newest first: how each begins, and the total.",
    arguments=ListDrawersArguments,
    answer=ListDrawersAnswer,
    run=list_drawers,
    within_wings=True,
)
UPDATE_DRAWER = Tool(
    name="update_drawer",
    title="Update drawer",
    description="Replace content, place or metadata of a drawer; the old version is kept.",
    arguments=UpdateDrawerArguments,
    answer=UpdateDrawerAnswer,
    run=update_drawer,
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
DELETE_DRAWERS = Tool(
    name="delete_drawers",
    title="Delete drawers",
    description="Delete drawers by ids, or by filters: a dry run unless dry_run is false. {restore_drawers} undoes it.",
    arguments=DeleteDrawersArguments,
    answer=DeleteDrawersAnswer,
    run=delete_drawers,
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
RESTORE_DRAWERS = Tool(
    name="restore_drawers",
    title="Restore drawers",
    description="Bring deleted drawers back.",
    arguments=DrawerIdsArguments,
    answer=RestoreDrawersAnswer,
    run=restore_drawers,
    effect=Effect.WRITE,
    within_wings=True,
)
