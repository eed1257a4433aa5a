"""Tunnels between rooms: those that agents dig, and those between rooms of the same name."""

from typing import Annotated, NotRequired, TypedDict, Unpack

from pydantic import Field

from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.model import Place, Tunnel
from mempalace_mcp.palace.tunnels import MAX_HOPS, MAX_LABEL_BYTES
from mempalace_mcp.server.tools.answers import Json, present
from mempalace_mcp.server.tools.schema import Cursor, Limit
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool


class TunnelArguments(TypedDict):
    """The two rooms, and what connects them."""

    source_wing: str
    source_room: Annotated[str, Field(description="Room that it begins in")]
    target_wing: str
    target_room: Annotated[str, Field(description="Room that it leads to")]
    label: NotRequired[Annotated[str, Field(max_length=MAX_LABEL_BYTES, description="What connects them")]]
    source_drawer_id: NotRequired[Annotated[str, Field(description="Drawer it is about")]]
    target_drawer_id: NotRequired[Annotated[str, Field(description="Drawer there")]]


class Listing(TypedDict):
    """One page; `total` counts all."""

    count: NotRequired[int]
    total: NotRequired[int]
    next_cursor: str | None


class TunnelAnswer(TypedDict):
    """The tunnel, and whether it is new."""

    tunnel: Json
    created: bool


class TunnelsAnswer(Listing):
    """Tunnels, the oldest first."""

    tunnels: list[Json]


class DeleteTunnelAnswer(TypedDict):
    """The tunnel that is gone."""

    tunnel_id: str
    deleted: bool


class SharedRoomsAnswer(Listing):
    """Rooms, each with the largest wings that have it, and how many there are."""

    rooms: list[Json]


class FollowAnswer(Listing):
    """The rooms at the other ends."""

    connections: list[Json]


class TraverseAnswer(Listing):
    """Rooms, nearest first, with their `hop` from 0. If `truncated`, there are more around than were visited."""

    rooms: list[Json]
    truncated: NotRequired[bool]


class GraphFiguresAnswer(TypedDict):
    """Wings and rooms with drawers, names of rooms in several wings, and tunnels."""

    wings: int
    rooms: int
    shared_rooms: int
    tunnels: int


@tool(
    "Connect two rooms, each in its wing, by a tunnel. created is false if they were, with that label.",
    effect=Effect.WRITE,
    within_wings=True,
)
def create_tunnel(call: ToolCall, **tunnel: Unpack[TunnelArguments]) -> TunnelAnswer:
    found, created = call.palace.create_tunnel(**tunnel, deadline=call.deadline)
    return {"tunnel": _format_tunnel(found), "created": created}


@tool("List the tunnels of a wing, or all.", within_wings=True)
def list_tunnels(
    call: ToolCall, wing: str | None = None, limit: Limit = 100, cursor: Cursor | None = None
) -> TunnelsAnswer:
    page = call.palace.list_tunnels(wing=wing, limit=limit, cursor=cursor)
    shown = [_format_tunnel(tunnel) for tunnel in page.items]
    return {"tunnels": shown, "count": len(shown), "total": page.total, "next_cursor": page.next_cursor}


@tool("Remove the tunnel with this tunnel_id.", effect=Effect.WRITE, destructive=True, within_wings=True)
def delete_tunnel(call: ToolCall, tunnel_id: str) -> DeleteTunnelAnswer:
    call.palace.delete_tunnel(tunnel_id, deadline=call.deadline)
    return {"tunnel_id": tunnel_id, "deleted": True}


@tool("Find rooms of the same name in two wings (wing_a, wing_b), or in any.", within_wings=True)
def find_tunnels(
    call: ToolCall,
    wing_a: str | None = None,
    wing_b: str | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> SharedRoomsAnswer:
    page = call.palace.find_tunnels(wing_a=wing_a, wing_b=wing_b, limit=limit, cursor=cursor)
    rooms: list[Json] = [
        {"room": each.room, "wings": list(each.wings), "wing_count": each.wing_count, "drawers": each.drawers}
        for each in page.items
    ]
    return {"rooms": rooms, "count": len(rooms), "total": page.total, "next_cursor": page.next_cursor}


@tool("List the rooms that tunnels connect to a room.", within_wings=True)
def follow_tunnels(
    call: ToolCall, wing: str, room: str, limit: Limit = 100, cursor: Cursor | None = None
) -> FollowAnswer:
    place, page = call.palace.follow_tunnels(wing, room, limit=limit, cursor=cursor)
    connections = [_format_connection(tunnel, place) for tunnel in page.items]
    return {
        "connections": connections,
        "count": len(connections),
        "total": page.total,
        "next_cursor": page.next_cursor,
    }


@tool(
    "Walk from a room (start_room, of all wings or one) through tunnels and rooms of the same name, at most max_hops.",
    within_wings=True,
)
def traverse(
    call: ToolCall,
    start_room: str,
    wing: str | None = None,
    max_hops: Annotated[int, Field(ge=1, le=MAX_HOPS)] = 2,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> TraverseAnswer:
    found = call.palace.traverse(start_room, wing=wing, max_hops=max_hops, limit=limit, cursor=cursor)
    rooms = [
        present(
            {
                "wing": each.wing,
                "room": each.room,
                "drawers": each.drawers,
                "hop": each.hop,
                "via": each.via,
                "from_wing": each.from_wing,
                "from_room": each.from_room,
            }
        )
        for each in found.rooms
    ]
    return {
        "rooms": rooms,
        "count": len(rooms),
        "total": found.total,
        "next_cursor": found.next_cursor,
        "truncated": found.truncated,
    }


@tool("Count wings, rooms, rooms that wings share, and tunnels.", title="Tunnel sizes", within_wings=True)
def graph_stats(call: ToolCall) -> GraphFiguresAnswer:
    figures = call.palace.graph_stats()
    return {
        "wings": figures.wings,
        "rooms": figures.rooms,
        "shared_rooms": figures.shared,
        "tunnels": figures.tunnels,
    }


def _format_room(place: Place) -> Json:
    return {"wing": place.wing.shown, "room": place.room.shown}


def _format_tunnel(tunnel: Tunnel) -> Json:
    return present(
        {
            "tunnel_id": tunnel.tunnel_id,
            "source": _format_room(tunnel.source),
            "target": _format_room(tunnel.target),
            "label": tunnel.label or None,
            "source_drawer_id": tunnel.source_drawer_id,
            "target_drawer_id": tunnel.target_drawer_id,
            "created_at": format_instant(tunnel.created_at),
        }
    )


def _format_connection(tunnel: Tunnel, place: Place) -> Json:
    """The other end of a tunnel, with the drawer there that it is about."""
    outgoing = tunnel.source == place
    other = (tunnel.target, tunnel.target_drawer_id) if outgoing else (tunnel.source, tunnel.source_drawer_id)
    return present(
        {
            **_format_room(other[0]),
            "direction": "outgoing" if outgoing else "incoming",
            "label": tunnel.label or None,
            "drawer_id": other[1],
            "tunnel_id": tunnel.tunnel_id,
        }
    )
