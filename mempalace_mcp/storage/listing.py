"""Reading drawers: by id, by filter, page by page, counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mempalace_mcp.core.model import Drawer, DrawerFilter, DrawerVersion, Duplicate, Page, Place, RoomCount
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage import places, rows
from mempalace_mcp.storage.cursors import GREATEST, Position, decode_cursor, encode_cursor
from mempalace_mcp.storage.filters import condition_of, conditions_by_room, count_drawers

NEWEST: Position = (GREATEST, GREATEST)
"""Before the newest drawer there can be: its instant and row."""

ALL = -1
"""As a limit: everything there is."""


class DrawerListing:
    """What reads drawers. Newest means latest `occurred_at`, else `created_at`; then latest filed."""

    def get(self, connection: sqlite3.Connection, drawer_ids: Sequence[str], *, deleted: bool = False) -> list[Drawer]:
        """Drawers by id, in the order asked, those not found left out; with `deleted` also those in the trash."""
        drawers = rows.read_drawers(connection, "drawer_id", drawer_ids)
        return [drawer for drawer in drawers if deleted or drawer.deleted_at is None]

    def page(
        self, connection: sqlite3.Connection, filter: DrawerFilter, limit: int, cursor: str | None
    ) -> Page[Drawer]:
        """Live drawers that match, newest first.

        Raises:
            InvalidArgument: the cursor is none, or one of another filter.
        """
        keys = _newest(connection, filter, limit + 1, decode_cursor(cursor, filter.question, NEWEST))
        shown = keys[:limit]
        return Page(
            items=rows.read_drawers(connection, "id", [drawer for _, drawer in shown]),
            total=count_drawers(connection, filter),
            next_cursor=encode_cursor(shown[-1], filter.question) if len(keys) > limit else None,
        )

    def matching(self, connection: sqlite3.Connection, filter: DrawerFilter, limit: int) -> list[str]:
        """Ids of live drawers that match, newest first; all of them when the limit is -1."""
        keys = rows.json_array([drawer for _, drawer in _newest(connection, filter, limit, NEWEST)])
        found = connection.execute(
            "SELECT d.drawer_id FROM json_each(?) AS wanted CROSS JOIN drawers d ON d.id = wanted.value"
            " ORDER BY wanted.key",
            (keys,),
        )
        return [row[0] for row in found]

    def count(self, connection: sqlite3.Connection, filter: DrawerFilter) -> int:
        """How many live drawers match."""
        return count_drawers(connection, filter)

    def versions(self, connection: sqlite3.Connection, drawer_id: str) -> list[DrawerVersion]:
        """What a drawer said before each of its updates, oldest first."""
        return rows.read_versions(connection, drawer_id)

    def duplicates(
        self, connection: sqlite3.Connection, content: str, filter: DrawerFilter, limit: int
    ) -> list[Duplicate]:
        """Live drawers that say the same, byte for byte or after normalization: the exact ones first, newest first."""
        condition = condition_of(filter)
        found = connection.execute(
            f"SELECT d.id, d.content_hash = :exact FROM drawers d WHERE d.normalized_hash = :normalized"
            f" AND {condition.sql} ORDER BY 2 DESC, d.when_at DESC, d.id DESC LIMIT :limit",
            condition.values
            | {"exact": rows.content_hash(content), "normalized": rows.normalized_hash(content), "limit": limit},
        ).fetchall()
        drawers = rows.read_drawers(connection, "id", [row[0] for row in found])
        kinds = ["exact" if exact else "normalized" for _, exact in found]
        return [Duplicate(drawer, kind, 1.0) for drawer, kind in zip(drawers, kinds, strict=True)]

    def taxonomy(self, connection: sqlite3.Connection, wing: str | None) -> list[RoomCount]:
        """Rooms with live drawers, of one wing by key or of all, by name."""
        return places.read_taxonomy(connection, wing)

    def find_wing(self, connection: sqlite3.Connection, key: str) -> Name | None:
        """The wing of that key, also an empty one."""
        return places.find_wing(connection, key)

    def find_room(self, connection: sqlite3.Connection, wing: str, room: str) -> Place | None:
        """The room of these keys, also an empty one."""
        return places.find_room(connection, wing, room)


def _newest(connection: sqlite3.Connection, filter: DrawerFilter, limit: int, after: Position) -> list[Position]:
    """Sort keys (instant, row) of the live drawers that match and follow a position, newest first."""
    keys: list[Position] = []
    for condition in conditions_by_room(connection, filter):
        keys += connection.execute(
            f"SELECT d.when_at, d.id FROM {condition.source} AND (d.when_at, d.id) < (:after, :after_id)"
            " ORDER BY d.when_at DESC, d.id DESC LIMIT :limit",
            condition.values | {"after": after[0], "after_id": after[1], "limit": limit},
        )
    keys.sort(reverse=True)
    return keys if limit == ALL else keys[:limit]
