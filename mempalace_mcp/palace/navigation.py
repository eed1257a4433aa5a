"""Finding one's way in a palace: listings of wings and rooms, and drawers that move to other rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import DrawerFilter, Move, NameCount, Page, Target
from mempalace_mcp.palace import arguments
from mempalace_mcp.palace.arguments import FilterArguments
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.transactions import Transaction

MAX_MOVED = 10_000
"""Drawers that one call moves. Meanwhile no other write is done."""

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
            return seen.done(store.move(tx, ids, target))

        if not (isinstance(chosen, DrawerFilter) if dry_run is None else dry_run):
            return self._stores.writer.write(work, deadline or Deadline())
        with self._stores.reader.read() as connection:
            return look(connection)


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
