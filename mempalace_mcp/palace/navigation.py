"""Finding one's way in a palace: listings of wings and rooms, and drawers that move to other rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.model import DrawerFilter, Move, Page, Renaming, Target
from mempalace_mcp.core.navigation import NameCount
from mempalace_mcp.core.text import Name
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.arguments import FilterArguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.transactions import Transaction

MAX_MOVED = 10_000
"""Drawers that one call moves. Meanwhile no other write is done."""

MAX_MOVE_ID = 2**53 - 1
"""The last whole number that every reader of JSON takes as it is."""

SAMPLE = 5


class NavigationOperations:
    """Listings of wings and rooms, and moves of drawers."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list_wings(self, *, limit: int = arguments.MAX_LIMIT, cursor: str | None = None) -> Page[NameCount]:
        """Wings with live drawers, by name."""
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.wings_page(connection, limit, arguments.present(cursor))

    def list_rooms(
        self, *, wing: str | None = None, limit: int = arguments.MAX_LIMIT, cursor: str | None = None
    ) -> Page[NameCount]:
        """Rooms with live drawers, by name: of one wing, or of all, where those of the same name are one."""
        key = arguments.read_optional_key(wing, "wing")
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.rooms_page(connection, key, limit, arguments.present(cursor))

    def move_drawers(
        self,
        *,
        drawer_ids: Sequence[str] | None = None,
        to_wing: str | None = None,
        to_room: str | None = None,
        dry_run: bool | None = None,
        deadline: Deadline | None = None,
        **filters: Unpack[FilterArguments],
    ) -> Move:
        """Move drawers to another wing, another room or both: by ids (at once unless `dry_run`), or by filters (only if
        `dry_run` is False), at most `MAX_MOVED`. Where they stood becomes a version."""
        target = Target(
            arguments.read_optional_name(to_wing, "to_wing"), arguments.read_optional_name(to_room, "to_room")
        )
        if target == Target(None, None):
            raise InvalidArgument(
                "it is not said where to", argument="to_room", hint="Give to_wing, to_room or both; the other stays."
            )
        chosen = arguments.read_choice(self._stores.calendar, drawer_ids, **filters)
        store = self._stores.drawers

        def look(connection: Connection) -> Move:
            if isinstance(chosen, DrawerFilter):
                return _filtered(store, connection, chosen)
            return _listed(store, connection, chosen)

        def work(tx: Transaction) -> Move:
            ids = chosen if not isinstance(chosen, DrawerFilter) else _bounded(store, tx.connection, chosen)
            seen = look(tx.connection)
            moved = store.move(tx, ids, target)
            return seen.done(moved, tx.stamp.seq if moved else None)

        if not (isinstance(chosen, DrawerFilter) if dry_run is None else dry_run):
            return self._stores.writer.write(work, deadline or Deadline())
        with self._stores.reader.read() as connection:
            return look(connection)

    def rename_wing(
        self, wing: str, new_name: str, *, dry_run: bool = True, deadline: Deadline | None = None
    ) -> Renaming:
        """Rename a wing; under the name of another one the two become one. At most `MAX_MOVED` drawers are in it."""
        return self._rename(text.read_name(wing, "wing"), None, text.read_name(new_name, "new_name"), dry_run, deadline)

    def rename_room(
        self, wing: str, room: str, new_name: str, *, dry_run: bool = True, deadline: Deadline | None = None
    ) -> Renaming:
        """Rename a room of a wing; under the name of another one in it the two become one. At most `MAX_MOVED` drawers
        are in it."""
        inside, new = text.read_name(room, "room"), text.read_name(new_name, "new_name")
        return self._rename(text.read_name(wing, "wing"), inside, new, dry_run, deadline)

    def undo_move(self, move_id: int, *, deadline: Deadline | None = None) -> Move:
        """Undo a move or a renaming as far as the drawers have not changed since.

        Raises:
            NotFound: there is nothing left to undo.
        """
        arguments.read_limit(move_id, "move_id", MAX_MOVE_ID)
        store = self._stores.drawers

        def work(tx: Transaction) -> Move:
            moved = store.move_back(tx, move_id)
            if not moved:
                raise NotFound(
                    f"no drawer stands where the move {move_id} has left it",
                    argument="move_id",
                    hint="It is undone, or its drawers have changed since: move_drawers moves them.",
                )
            return Move(moved, moved, False, (), (), move_id=tx.stamp.seq)

        return self._stores.writer.write(work, deadline or Deadline())

    def _rename(
        self, wing: Name, room: Name | None, new_name: Name, dry_run: bool, deadline: Deadline | None
    ) -> Renaming:
        store = self._stores.drawers

        def look(connection: Connection) -> Renaming:
            found = _find(store, connection, wing, room)
            seen = store.look_at_renaming(connection, *found, new_name)
            if seen.drawers > MAX_MOVED:
                raise InvalidArgument(
                    f"there are {seen.drawers:,} drawers, and one call moves {MAX_MOVED:,}",
                    argument="wing" if room is None else "room",
                    hint="Move some of them first: move_drawers with since, before or room. Nothing was moved.",
                )
            return seen

        def work(tx: Transaction) -> Renaming:
            look(tx.connection)
            return store.rename(tx, *_find(store, tx.connection, wing, room), new_name)

        if not dry_run:
            return self._stores.writer.write(work, deadline or Deadline())
        with self._stores.reader.read() as connection:
            return look(connection)


def _find(store: DrawerStore, connection: Connection, wing: Name, room: Name | None) -> tuple[Name, Name | None]:
    """The wing, and the room if one is meant, as they are shown.

    Raises:
        NotFound: there is none.
    """
    found = store.find_wing(connection, wing.key)
    if found is None:
        raise no_wing(wing)
    if room is None:
        return found, None
    inside = store.find_room(connection, wing.key, room.key)
    if inside is None:
        raise no_room(wing, room)
    return inside.wing, inside.room


def _listed(store: DrawerStore, connection: Connection, drawer_ids: Sequence[str]) -> Move:
    live = store.get(connection, drawer_ids)
    found = {drawer.drawer_id for drawer in live}
    return Move(len(live), 0, True, [each for each in drawer_ids if each not in found], live[:SAMPLE])


def _filtered(store: DrawerStore, connection: Connection, chosen: DrawerFilter) -> Move:
    page = store.page(connection, chosen, SAMPLE, None)
    return Move(page.total, 0, True, (), page.items, chosen.since, chosen.before)


def _bounded(store: DrawerStore, connection: Connection, chosen: DrawerFilter) -> list[str]:
    """The ids of all drawers that match.

    Raises:
        InvalidArgument: they are more than one call moves.
    """
    ids = store.matching(connection, chosen, MAX_MOVED + 1)
    if len(ids) > MAX_MOVED:
        raise InvalidArgument(
            f"{store.count(connection, chosen):,} drawers match, and one call moves {MAX_MOVED:,}",
            argument="since",
            hint="Move some of them first: since, before, room and source_file leave fewer. Nothing was moved.",
        )
    return ids


def no_wing(wing: Name) -> NotFound:
    """The error for a wing that there is not."""
    return NotFound(
        f"there is no wing {wing.shown!r}", argument="wing", hint="get_taxonomy names the wings and their rooms."
    )


def no_room(wing: Name, room: Name) -> NotFound:
    """The error for a room that there is not."""
    return NotFound(
        f"there is no room {room.shown!r} in the wing {wing.shown!r}",
        argument="room",
        hint="get_taxonomy names the wings and their rooms.",
    )
