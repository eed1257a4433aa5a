"""The operations on tunnels between rooms."""

from __future__ import annotations

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.model import Page, Place, Tunnel
from mempalace_mcp.core.navigation import SharedRoom, Traversal, TunnelFigures
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import unknown_drawer
from mempalace_mcp.storage.transactions import Transaction

MAX_HOPS = 10
MAX_LABEL_BYTES = 512


class TunnelOperations:
    """Digging, removing and following tunnels."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def create_tunnel(
        self,
        source_wing: str,
        source_room: str,
        target_wing: str,
        target_room: str,
        *,
        label: str = "",
        source_drawer_id: str | None = None,
        target_drawer_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> tuple[Tunnel, bool]:
        """Connect two rooms: the tunnel, and whether it is new. One with that label, in either direction, is returned
        instead.

        Raises:
            NotFound: there is no such room, or no such drawer.
        """
        asked = Tunnel(
            Place(text.read_name(source_wing, "source_wing"), text.read_name(source_room, "source_room")),
            Place(text.read_name(target_wing, "target_wing"), text.read_name(target_room, "target_room")),
            text.verify_text(label, "label", MAX_LABEL_BYTES).strip(),
            arguments.read_id(source_drawer_id, "source_drawer_id") if source_drawer_id else None,
            arguments.read_id(target_drawer_id, "target_drawer_id") if target_drawer_id else None,
        )
        if _keys(asked.source) == _keys(asked.target):
            raise InvalidArgument(
                "a tunnel leads to another room", argument="target_room", hint="Give another room or another wing."
            )
        store = self._stores.drawers

        def work(tx: Transaction) -> tuple[Tunnel, bool]:
            source = self._room(tx.connection, asked.source, "source")
            target = self._room(tx.connection, asked.target, "target")
            for drawer_id, argument in (
                (asked.source_drawer_id, "source_drawer_id"),
                (asked.target_drawer_id, "target_drawer_id"),
            ):
                if drawer_id is not None and not store.get(tx.connection, [drawer_id]):
                    raise unknown_drawer(drawer_id, argument)
            found = Tunnel(source, target, asked.label, asked.source_drawer_id, asked.target_drawer_id)
            return store.dig(tx, found)

        return self._stores.writer.write(work, deadline or Deadline())

    def delete_tunnel(self, tunnel_id: str, *, deadline: Deadline | None = None) -> None:
        """Remove a tunnel.

        Raises:
            NotFound: there is none of that id.
        """
        known, store = text.verify_text(tunnel_id.strip(), "tunnel_id", text.MAX_NAME_BYTES), self._stores.drawers
        if not self._stores.writer.write(lambda tx: store.fill(tx, known), deadline or Deadline()):
            raise NotFound(
                f"there is no tunnel {known[:40]!r}",
                argument="tunnel_id",
                hint="list_tunnels shows the ids.",
            )

    def list_tunnels(
        self, *, wing: str | None = None, limit: int = arguments.MAX_LIMIT, cursor: str | None = None
    ) -> Page[Tunnel]:
        """Tunnels by age: those with an end in a wing, or all."""
        key = arguments.read_optional_key(wing, "wing")
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.tunnels_page(connection, key, None, limit, arguments.present(cursor))

    def follow_tunnels(
        self, wing: str, room: str, *, limit: int = arguments.MAX_LIMIT, cursor: str | None = None
    ) -> tuple[Place, Page[Tunnel]]:
        """A room, and the tunnels that begin or end in it.

        Raises:
            NotFound: there is no such room.
        """
        asked = Place(text.read_name(wing, "wing"), text.read_name(room, "room"))
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            place = self._room(connection, asked, "")
            page = self._stores.drawers.tunnels_page(
                connection, place.wing.key, place.room.key, limit, arguments.present(cursor)
            )
        return place, page

    def find_tunnels(
        self,
        *,
        wing_a: str | None = None,
        wing_b: str | None = None,
        limit: int = arguments.MAX_LIMIT,
        cursor: str | None = None,
    ) -> Page[SharedRoom]:
        """Rooms of the same name in both wings, or in one of them and any other, or in any two."""
        first, second = arguments.read_optional_key(wing_a, "wing_a"), arguments.read_optional_key(wing_b, "wing_b")
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.shared_rooms(connection, first, second, limit, arguments.present(cursor))

    def traverse(
        self,
        start_room: str,
        *,
        wing: str | None = None,
        max_hops: int = 2,
        limit: int = arguments.MAX_LIMIT,
        cursor: str | None = None,
    ) -> Traversal:
        """The rooms within `max_hops` of those of a name, or of the one in a wing: through rooms of the same name in
        other wings, and through tunnels.

        Raises:
            NotFound: no such room holds drawers.
        """
        room, inside = text.read_name(start_room, "start_room"), arguments.read_optional_key(wing, "wing")
        arguments.read_limit(max_hops, "max_hops", MAX_HOPS)
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            found = self._stores.drawers.traverse(
                connection, room.key, inside, max_hops, limit, arguments.present(cursor)
            )
        if not found.total:
            raise NotFound(
                f"no room {room.shown!r} holds drawers{' in that wing' if inside else ''}",
                argument="start_room",
                hint="list_rooms names the rooms.",
            )
        return found

    def graph_stats(self) -> TunnelFigures:
        """How wings, rooms and tunnels hang together."""
        with self._stores.reader.read() as connection:
            return self._stores.drawers.tunnel_figures(connection)

    def _room(self, connection: Connection, place: Place, end: str) -> Place:
        """The room as it is shown; `end` begins the names of its arguments.

        Raises:
            NotFound: there is none.
        """
        found = self._stores.drawers.find_room(connection, place.wing.key, place.room.key)
        if found is None:
            raise NotFound(
                f"there is no room {place.room.shown!r} in the wing {place.wing.shown!r}",
                argument=f"{end}_room" if end else "room",
                hint="list_wings and list_rooms name them; a room is there once a drawer is filed in it.",
            )
        return found


def _keys(place: Place) -> tuple[str, str]:
    return place.wing.key, place.room.key
