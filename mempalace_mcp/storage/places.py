"""Listings of wings and of rooms, by name, a page at a time."""

from __future__ import annotations

from typing import Any

from mempalace_mcp.core.model import Page
from mempalace_mcp.core.navigation import NameCount
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import Position, decode_cursor, encode_cursor

_BEGINNING: Position = (0,)

# A page goes on behind the key of a row: keys can be compared, but have no place in a cursor, and rows keep theirs.
_WINGS = """
    SELECT min(w.id) AS row, min(w.name) AS name, sum(r.drawers) AS drawers, w.key AS key
    FROM wings w JOIN rooms r ON r.wing = w.id
    WHERE {where} AND w.key > coalesce((SELECT key FROM wings WHERE id = :after), '') GROUP BY w.key
"""
_ROOMS = """
    SELECT min(r.id) AS row, min(r.name) AS name, sum(r.drawers) AS drawers, r.key AS key
    FROM wings w JOIN rooms r ON r.wing = w.id
    WHERE {where} AND r.key > coalesce((SELECT key FROM rooms WHERE id = :after), '') GROUP BY r.key
"""


class PlaceListing:
    """Wings and rooms with live drawers. `_within` are the only wings, by key, that are shown; None means all."""

    _within: tuple[str, ...] | None = None

    def wings_page(self, connection: Connection, limit: int, cursor: str | None) -> Page[NameCount]:
        """Wings.

        Raises:
            InvalidArgument: the cursor is none, or one of another listing.
        """
        return self._page(connection, _WINGS, None, limit, cursor)

    def rooms_page(self, connection: Connection, wing: str | None, limit: int, cursor: str | None) -> Page[NameCount]:
        """Rooms of one wing by key, or of all wings; then rooms of the same name are one.

        Raises:
            InvalidArgument: the cursor is none, or one of another listing.
        """
        return self._page(connection, _ROOMS, wing, limit, cursor)

    def _page(
        self, connection: Connection, source: str, wing: str | None, limit: int, cursor: str | None
    ) -> Page[NameCount]:
        dialect, question = connection.dialect, ("places", source, wing, self._within)
        (after,) = decode_cursor(cursor, question, _BEGINNING)
        values: dict[str, Any] = {"wing": wing, "after": after, "limit": limit + 1}
        where = "r.drawers > 0"
        if wing is not None:
            where += " AND w.key = :wing"
        if self._within is not None:
            where += f" AND w.key IN {dialect.members(':within', str)}"
            values["within"] = dialect.array(self._within)
        listed = source.format(where=where)
        found = connection.execute(f"{listed} ORDER BY key LIMIT :limit", values).fetchall()
        (total,) = connection.execute(
            f"SELECT count(*) FROM ({listed}) AS places", {**values, "after": _BEGINNING[0]}
        ).fetchone()
        shown = found[:limit]
        return Page(
            items=[NameCount(name, int(drawers)) for _, name, drawers, _ in shown],
            total=total,
            next_cursor=encode_cursor((shown[-1][0],), question) if len(found) > limit else None,
        )
