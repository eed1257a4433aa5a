"""Listing wings and rooms, single drawers by their ids, and moving drawers."""

from typing import Annotated, NotRequired, TypedDict, Unpack, cast

from pydantic import Field

from mempalace_mcp.core.model import Renaming
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.arguments import read_id
from mempalace_mcp.palace.navigation import MAX_MOVE_ID
from mempalace_mcp.server.tools.answers import (
    MAX_TOKENS,
    MIN_TOKENS,
    TOKENS,
    Json,
    Quoting,
    format_preview,
    part_of,
    quoting,
)
from mempalace_mcp.server.tools.drawers import DeleteDrawersAnswer, DrawerFilters, answer_deletion, times
from mempalace_mcp.server.tools.schema import Cursor, Ids, Limit
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool
from mempalace_mcp.storage.drawers import unknown_drawer


class Names(TypedDict):
    """One page; `total` counts all."""

    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


class WingsAnswer(Names):
    """Live drawers by wing."""

    wings: Json


class RoomsAnswer(Names):
    """Live drawers by room."""

    rooms: Json


class DrawerAnswer(Quoting):
    """The drawer. `characters` is the length of the whole content, `offset` where the shown part begins."""

    drawer_id: str
    content: str
    wing: NotRequired[str]
    room: NotRequired[str]
    metadata: NotRequired[Json]
    source_file: NotRequired[str]
    added_by: NotRequired[str]
    occurred_at: NotRequired[str]
    created_at: NotRequired[str]
    updated_at: NotRequired[str]
    superseded_by: NotRequired[str]
    version: NotRequired[int]
    characters: NotRequired[int]
    offset: NotRequired[int]
    next_offset: int | None
    hint: NotRequired[str]


class DeleteDrawerAnswer(TypedDict):
    """The drawer that is in the trash now."""

    drawer_id: str
    deleted: int
    hint: NotRequired[str]


class Destination(TypedDict):
    """Where to; what is absent stays."""

    to_wing: NotRequired[Annotated[str, Field(description="Wing to move to")]]
    to_room: NotRequired[Annotated[str, Field(description="Room to move to")]]


class Moves(DrawerFilters, Destination):
    """Which drawers to move, and where to."""


class MoveAnswer(TypedDict):
    """The outcome of a move or of its dry run; `moved` counts those that stood elsewhere."""

    matched: NotRequired[int]
    moved: int
    dry_run: bool
    missing: NotRequired[list[str]]
    sample: NotRequired[list[Json]]
    move_id: NotRequired[int]
    hint: NotRequired[str]


class RenameAnswer(TypedDict):
    """The outcome of a renaming or of its dry run. If `merges`, others stand under the new name already."""

    drawers: int
    merges: NotRequired[bool]
    dry_run: bool
    move_id: NotRequired[int]
    hint: NotRequired[str]


class UndoneAnswer(TypedDict):
    """How many drawers are back where they stood."""

    moved: int
    move_id: NotRequired[int]


@tool("List the wings and their drawers, by name.", within_wings=True)
def list_wings(call: ToolCall, limit: Limit = 100, cursor: Cursor | None = None) -> WingsAnswer:
    page = call.palace.list_wings(limit=limit, cursor=cursor)
    wings = {wing.name: wing.drawers for wing in page.items}
    return {"wings": wings, "count": len(wings), "total": page.total, "next_cursor": page.next_cursor}


@tool("List the rooms of a wing, or of all, and their drawers, by name.", within_wings=True)
def list_rooms(
    call: ToolCall, wing: str | None = None, limit: Limit = 100, cursor: Cursor | None = None
) -> RoomsAnswer:
    page = call.palace.list_rooms(wing=wing, limit=limit, cursor=cursor)
    rooms = {room.name: room.drawers for room in page.items}
    return {"rooms": rooms, "count": len(rooms), "total": page.total, "next_cursor": page.next_cursor}


@tool("Read one drawer, verbatim, with metadata; a long one in parts.", within_wings=True)
def get_drawer(
    call: ToolCall,
    drawer_id: str,
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS)] = TOKENS,
    offset: Annotated[int, Field(ge=0, le=MAX_CONTENT_BYTES)] = 0,
) -> DrawerAnswer:
    part = part_of([call.palace.read_drawer(drawer_id)], offset, max_tokens)
    (shown,) = part.drawers
    answer = cast(DrawerAnswer, {**shown, "next_offset": part.next_offset, **quoting(part.drawers)})
    if part.next_offset is not None:
        answer["hint"] = f"There is more: call again with offset {part.next_offset}."
    return answer


@tool(
    "Delete one drawer. {restore_drawers} undoes it.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def delete_drawer(call: ToolCall, drawer_id: str) -> DeleteDrawerAnswer:
    known = read_id(drawer_id)
    answer = answer_deletion(call.palace.delete_drawers(drawer_ids=[known], deadline=call.deadline))
    if not answer["deleted"]:
        raise unknown_drawer(known)
    return {"drawer_id": known, "deleted": answer["deleted"], "hint": answer["hint"]}


@tool(
    "Delete all drawers of a source: a dry run unless dry_run is false. {restore_drawers} undoes it.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def delete_by_source(
    call: ToolCall, source_file: Annotated[str, Field(min_length=1)], dry_run: bool = True
) -> DeleteDrawersAnswer:
    return answer_deletion(call.palace.delete_drawers(source_file=source_file, dry_run=dry_run, deadline=call.deadline))


@tool(
    "Move drawers to another wing or room: by ids, or by filters, then a dry run unless dry_run is false.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def move_drawers(
    call: ToolCall, drawer_ids: Ids | None = None, *, dry_run: bool | None = None, **moves: Unpack[Moves]
) -> MoveAnswer:
    move = call.palace.move_drawers(drawer_ids=drawer_ids, **moves, dry_run=dry_run, deadline=call.deadline)
    answer = MoveAnswer(
        matched=move.matched,
        moved=move.moved,
        dry_run=move.dry_run,
        missing=list(move.missing),
        sample=[format_preview(drawer) for drawer in move.sample],
    )
    if move.dry_run and move.matched:
        which = f"{move.matched}{times(move.since, move.before)}"
        answer["hint"] = f"Nothing was moved. Call again with dry_run false to move {which}."
    return {**answer, **_way_back(move.move_id)}


_RENAMES = "a dry run unless dry_run is false. Under the name of another one the two become one. {undo_move} undoes it."


@tool(f"Rename a wing to new_name: {_RENAMES}", effect=Effect.WRITE, destructive=True, within_wings=True)
def rename_wing(call: ToolCall, wing: str, new_name: str, dry_run: bool = True) -> RenameAnswer:
    return _answer_renaming(call.palace.rename_wing(wing, new_name, dry_run=dry_run, deadline=call.deadline))


@tool(f"Rename a room of a wing to new_name: {_RENAMES}", effect=Effect.WRITE, destructive=True, within_wings=True)
def rename_room(call: ToolCall, wing: str, room: str, new_name: str, dry_run: bool = True) -> RenameAnswer:
    return _answer_renaming(call.palace.rename_room(wing, room, new_name, dry_run=dry_run, deadline=call.deadline))


@tool(
    "Undo a move or renaming by its move_id, as far as the drawers have not changed since.",
    effect=Effect.WRITE,
    destructive=True,
    within_wings=True,
)
def undo_move(call: ToolCall, move_id: Annotated[int, Field(ge=1, le=MAX_MOVE_ID)]) -> UndoneAnswer:
    move = call.palace.undo_move(move_id, deadline=call.deadline)
    answer = UndoneAnswer(moved=move.moved)
    if move.move_id is not None:
        answer["move_id"] = move.move_id
    return answer


class _WayBack(TypedDict):
    move_id: NotRequired[int]
    hint: NotRequired[str]


def _way_back(move_id: int | None) -> _WayBack:
    """How what has moved comes back, if anything has."""
    if move_id is None:
        return {}
    return {"move_id": move_id, "hint": f"undo_move with move_id {move_id} undoes it, except what changes until then."}


def _answer_renaming(renaming: Renaming) -> RenameAnswer:
    answer = RenameAnswer(drawers=renaming.drawers, merges=renaming.merges, dry_run=renaming.dry_run)
    if renaming.dry_run:
        beside = " They come to stand among those that are there." if renaming.merges else ""
        answer["hint"] = f"Nothing was moved. Call again with dry_run false to move {renaming.drawers}.{beside}"
    return {**answer, **_way_back(renaming.move_id)}
