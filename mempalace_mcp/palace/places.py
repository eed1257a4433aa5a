"""Going to a place in the palace: a wing, a room, a drawer where it stands. And finding the names on the way there."""

from __future__ import annotations

from mempalace_mcp.core import text
from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.model import Completion, Drawer, DrawerFilter, Room, Wing
from mempalace_mcp.core.text import MAX_NAME_BYTES, Name
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.names import Names

COMPLETIONS = 100
"""Names that are proposed at most."""


class Places:
    """What is found by the names of wing and room."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def get_wing(self, wing: str) -> Wing:
        """A wing and its rooms; also one whose drawers are all gone."""
        asked = text.read_name(wing, "wing")
        with self._stores.reader.read() as connection:
            found = self._stores.drawers.find_wing(connection, asked.key)
            if found is None:
                raise _no_wing(asked)
            rooms = self._stores.drawers.taxonomy(connection, asked.key)
        return Wing(found.shown, rooms, sum(room.drawers for room in rooms))

    def get_room(self, wing: str, room: str, *, limit: int = arguments.MAX_LIMIT) -> Room:
        """A room and its newest drawers."""
        asked, inside = text.read_name(wing, "wing"), text.read_name(room, "room")
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            found = self._stores.drawers.find_room(connection, asked.key, inside.key)
            if found is None:
                raise _no_room(asked, inside)
            place = DrawerFilter(wing=asked.key, room=inside.key)
            page = self._stores.drawers.page(connection, place, limit, None)
        return Room(found.wing.shown, found.room.shown, page)

    def get_drawer(self, wing: str, room: str, drawer_id: str) -> Drawer:
        """A live drawer that stands in that room."""
        place = text.read_name(wing, "wing").key, text.read_name(room, "room").key
        known = arguments.read_id(drawer_id)
        with self._stores.reader.read() as connection:
            for drawer in self._stores.drawers.get(connection, [known]):
                if (text.name_key(drawer.wing), text.name_key(drawer.room)) == place:
                    return drawer
        raise NotFound(
            f"no drawer {drawer_id} stands in that room",
            argument="drawer_id",
            hint="It was deleted or moved, or never was there; search and list_drawers tell where drawers stand.",
        )

    def complete_wing(self, begun: str) -> Completion:
        """Wings whose names begin so, then those that hold it."""
        with self._stores.reader.read() as connection:
            return self._names().wings(connection, _read_beginning(begun), COMPLETIONS)

    def complete_room(self, begun: str, *, wing: str | None = None) -> Completion:
        """Rooms whose names begin so, then those that hold it; of one wing, or of all."""
        given = arguments.present(wing)
        inside = text.read_name(given, "wing").key if given else None
        with self._stores.reader.read() as connection:
            return self._names().rooms(connection, _read_beginning(begun), COMPLETIONS, inside)

    def complete_agent(self, begun: str) -> Completion:
        """Agents with a diary whose names begin so, then those that hold it."""
        with self._stores.reader.read() as connection:
            return self._names().agents(connection, _read_beginning(begun), COMPLETIONS)

    def complete_entity(self, begun: str) -> Completion:
        """Entities of facts whose names begin so, then those that hold it."""
        with self._stores.reader.read() as connection:
            return self._names().entities(connection, _read_beginning(begun), COMPLETIONS)

    def _names(self) -> Names:
        return Names(self._stores.within)


def _read_beginning(begun: str) -> str:
    return text.verify_text(begun, "value", MAX_NAME_BYTES)


def _no_wing(wing: Name) -> NotFound:
    return NotFound(
        f"there is no wing {wing.shown!r}", argument="wing", hint="get_taxonomy names the wings and their rooms."
    )


def _no_room(wing: Name, room: Name) -> NotFound:
    return NotFound(
        f"there is no room {room.shown!r} in the wing {wing.shown!r}",
        argument="room",
        hint="get_taxonomy names the wings and their rooms.",
    )
