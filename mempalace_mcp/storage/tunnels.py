"""Tunnels between rooms: those that agents dig, and the passive ones between rooms of the same name in several wings.

Rooms without live drawers are not shown, nor are tunnels that lead out of the wings of a limited caller.
"""

from __future__ import annotations

from typing import Any

from mempalace_mcp.core.ids import TUNNEL, new_id
from mempalace_mcp.core.model import Page, Place, Tunnel
from mempalace_mcp.core.navigation import Reached, SharedRoom, Traversal, TunnelFigures
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import Position, decode_cursor, encode_cursor
from mempalace_mcp.storage.rows import find_place
from mempalace_mcp.storage.transactions import Transaction

MAX_ROOMS = 500
"""Visited by one traversal."""

WINGS_SHOWN = 20
"""Of a room that stands in many."""

_BEGINNING: Position = (0,)

_TUNNELS = """
    tunnels t JOIN rooms sr ON sr.id = t.source JOIN wings sw ON sw.id = sr.wing
    JOIN rooms tr ON tr.id = t.target JOIN wings tw ON tw.id = tr.wing
"""
_COLUMNS = """
    t.id, sw.name, sw.key, sr.name, sr.key, tw.name, tw.key, tr.name, tr.key, t.tunnel_id, t.label,
    t.source_drawer_id, t.target_drawer_id, t.created_at
"""
_SHARED = """
    SELECT min(r.id) AS row, min(r.name) AS name, r.key AS key, count(*) AS wings, sum(r.drawers) AS drawers
    FROM rooms r JOIN wings w ON w.id = r.wing WHERE r.drawers > 0 AND {within}
    AND r.key > coalesce((SELECT key FROM rooms WHERE id = :after), '') GROUP BY r.key
    HAVING count(*) > 1 AND (count(*) FILTER (WHERE w.key = :wing_a)) >= :has_a
    AND (count(*) FILTER (WHERE w.key = :wing_b)) >= :has_b
"""


class Tunnels:
    """Tunnels. `_within` are the only wings, by key, whose rooms are shown; None means all."""

    _within: tuple[str, ...] | None = None

    def dig(self, tx: Transaction, tunnel: Tunnel) -> tuple[Tunnel, bool]:
        """Make a tunnel between two rooms that exist, unless there is one, in either direction, with that label;
        returns it, and whether it is new."""
        connection = tx.connection
        ends = [find_place(connection, place) for place in (tunnel.source, tunnel.target)]
        source, target = (0 if end is None else end.room for end in ends)
        found = connection.execute(
            f"SELECT {_COLUMNS} FROM {_TUNNELS} WHERE t.label = :label AND"
            " (t.source = :source AND t.target = :target OR t.source = :target AND t.target = :source)"
            " ORDER BY t.id LIMIT 1",
            {"label": tunnel.label, "source": source, "target": target},
        ).fetchone()
        if found:
            return self._tunnel(found), False
        tunnel_id = new_id(TUNNEL, tx.stamp.instant)
        connection.execute(
            "INSERT INTO tunnels (tunnel_id, source, target, label, source_drawer_id, target_drawer_id, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                tunnel_id,
                source,
                target,
                tunnel.label,
                tunnel.source_drawer_id,
                tunnel.target_drawer_id,
                tx.stamp.instant,
            ),
        )
        return tunnel.dug(tunnel_id, tx.stamp.instant), True

    def fill(self, tx: Transaction, tunnel_id: str) -> bool:
        """Remove a tunnel; False if there is none of that id."""
        sql, values = self._in_wings(tx.connection, "sw", "tw")
        found = tx.connection.execute(
            f"SELECT t.id FROM {_TUNNELS} WHERE t.tunnel_id = :id AND {sql}", {**values, "id": tunnel_id}
        ).fetchone()
        if found:
            tx.mark_changed()
            tx.connection.execute("DELETE FROM tunnels WHERE id = ?", (found[0],))
        return found is not None

    def tunnels_page(
        self, connection: Connection, wing: str | None, room: str | None, limit: int, cursor: str | None
    ) -> Page[Tunnel]:
        """Tunnels by age, with an end in a wing, or in one of its rooms, by key.

        Raises:
            InvalidArgument: the cursor is none, or one of another listing.
        """
        question = ("tunnels", wing, room, self._within)
        (after,) = decode_cursor(cursor, question, _BEGINNING)
        where, values = self._in_wings(connection, "sw", "tw")
        if wing is not None:
            ends = [f"{w}.key = :wing" + ("" if room is None else f" AND {r}.key = :room") for w, r in _ENDS]
            where += f" AND ({' OR '.join(ends)})"
        values |= {"wing": wing, "room": room}
        (total,) = connection.execute(f"SELECT count(*) FROM {_TUNNELS} WHERE {where}", values).fetchone()
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM {_TUNNELS} WHERE {where} AND t.id > :after ORDER BY t.id LIMIT :limit",
            {**values, "after": after, "limit": limit + 1},
        ).fetchall()
        shown = rows[:limit]
        more = encode_cursor((shown[-1][0],), question) if len(rows) > limit else None
        return Page([self._tunnel(row) for row in shown], total, more)

    def shared_rooms(
        self, connection: Connection, wing_a: str | None, wing_b: str | None, limit: int, cursor: str | None
    ) -> Page[SharedRoom]:
        """Rooms of the same name in several wings, those wings among them that are given by key; by name.

        Raises:
            InvalidArgument: the cursor is none, or one of another listing.
        """
        question = ("shared", wing_a, wing_b, self._within)
        (after,) = decode_cursor(cursor, question, _BEGINNING)
        within, values = self._in_wings(connection, "w")
        values |= {"wing_a": wing_a or "", "wing_b": wing_b or "", "has_a": int(bool(wing_a))}
        values |= {"has_b": int(bool(wing_b)), "after": after, "limit": limit + 1}
        listed = _SHARED.format(within=within)
        rows = connection.execute(f"{listed} ORDER BY key LIMIT :limit", values).fetchall()
        (total,) = connection.execute(
            f"SELECT count(*) FROM ({listed}) AS shared", {**values, "after": _BEGINNING[0]}
        ).fetchone()
        shown = rows[:limit]
        wings = self._wings_of(connection, [key for _, _, key, _, _ in shown])
        more = encode_cursor((shown[-1][0],), question) if len(rows) > limit else None
        items = [SharedRoom(name, wings[key], count, int(drawers)) for _, name, key, count, drawers in shown]
        return Page(items, total, more)

    def traverse(
        self, connection: Connection, room: str, wing: str | None, max_hops: int, limit: int, cursor: str | None
    ) -> Traversal:
        """The rooms around those of a name, or around the one in a wing, by key: nearest first, then the largest.

        Raises:
            InvalidArgument: the cursor is none, or one of another traversal.
        """
        question = ("traverse", room, wing, max_hops, self._within)
        (shown,) = decode_cursor(cursor, question, _BEGINNING)
        where, values = self._in_wings(connection, "w")
        rows = connection.execute(
            "SELECT r.id, w.name, r.name, r.drawers FROM rooms r JOIN wings w ON w.id = r.wing"
            f" WHERE r.drawers > 0 AND r.key = :room AND w.key = coalesce(:wing, w.key) AND {where}"
            " ORDER BY r.drawers DESC, r.id LIMIT :limit",
            {**values, "room": room, "wing": wing, "limit": MAX_ROOMS + 1},
        ).fetchall()
        reached = {row: Reached(in_wing, name, drawers, 0) for row, in_wing, name, drawers in rows[:MAX_ROOMS]}
        truncated, frontier = len(rows) > MAX_ROOMS, list(reached)
        for hop in range(1, max_hops + 1):
            left = MAX_ROOMS - len(reached)
            rows = self._beyond(connection, frontier, list(reached), left + 1)
            truncated = truncated or len(rows) > left
            found = {
                row: Reached(in_wing, name, drawers, hop, via, reached[origin].wing, reached[origin].room)
                for row, in_wing, name, drawers, via, origin in rows[:left]
            }
            reached |= found
            frontier = list(found)
            if not frontier:
                break
        items = list(reached.values())[shown : shown + limit]
        more = encode_cursor((shown + limit,), question) if shown + limit < len(reached) else None
        return Traversal(items, len(reached), more, truncated)

    def tunnel_figures(self, connection: Connection) -> TunnelFigures:
        """How wings, rooms and tunnels hang together."""
        within, values = self._in_wings(connection, "w")
        wings, rooms = connection.execute(
            "SELECT count(DISTINCT w.id), count(*) FROM rooms r JOIN wings w ON w.id = r.wing"
            f" WHERE r.drawers > 0 AND {within}",
            values,
        ).fetchone()
        return TunnelFigures(
            wings=wings,
            rooms=rooms,
            shared=self.shared_rooms(connection, None, None, 1, None).total,
            tunnels=self.tunnels_page(connection, None, None, 1, None).total,
        )

    def _beyond(
        self, connection: Connection, frontier: list[int], reached: list[int], limit: int
    ) -> list[tuple[Any, ...]]:
        """Rooms one hop beyond: row, names, drawers, the kind of the hop and where it begins."""
        dialect = connection.dialect
        where, values = self._in_wings(connection, "w")
        source = f"{dialect.listed(':frontier', 'f')} {dialect.ordered_join}"
        return connection.execute(
            f"""
            SELECT r.id, w.name, r.name, r.drawers, max(hops.via), min(hops.origin)
            FROM (
                SELECT o.id AS id, f.value AS origin, 'name' AS via FROM {source} rooms s ON s.id = f.value
                {dialect.ordered_join} rooms o ON o.key = s.key
                UNION SELECT t.target, f.value, 'tunnel' FROM {source} tunnels t ON t.source = f.value
                UNION SELECT t.source, f.value, 'tunnel' FROM {source} tunnels t ON t.target = f.value
            ) AS hops JOIN rooms r ON r.id = hops.id JOIN wings w ON w.id = r.wing
            WHERE r.drawers > 0 AND {where} AND r.id NOT IN {dialect.members(":reached")}
            GROUP BY r.id, w.name, r.name, r.drawers ORDER BY r.drawers DESC, r.id LIMIT :limit
            """,
            {**values, "frontier": dialect.array(frontier), "reached": dialect.array(reached), "limit": limit},
        ).fetchall()

    def _wings_of(self, connection: Connection, rooms: list[str]) -> dict[str, list[str]]:
        """The largest wings in which rooms of these keys stand."""
        where, values = self._in_wings(connection, "w")
        rows = connection.execute(
            "SELECT key, name FROM (SELECT r.key AS key, w.name AS name,"
            " row_number() OVER (PARTITION BY r.key ORDER BY r.drawers DESC, w.key) AS place"
            " FROM rooms r JOIN wings w ON w.id = r.wing WHERE r.drawers > 0"
            f" AND r.key IN {connection.dialect.members(':rooms', str)} AND {where}) AS wings"
            " WHERE place <= :most ORDER BY key, place",
            {**values, "rooms": connection.dialect.array(rooms), "most": WINGS_SHOWN},
        )
        wings: dict[str, list[str]] = {}
        for key, name in rows:
            wings.setdefault(key, []).append(name)
        return wings

    def _in_wings(self, connection: Connection, *tables: str) -> tuple[str, dict[str, Any]]:
        """What holds for the wings under these names, with the values."""
        if self._within is None:
            return "true", {}
        members = connection.dialect.members(":within", str)
        sql = " AND ".join(f"{table}.key IN {members}" for table in tables)
        return sql, {"within": connection.dialect.array(self._within)}

    def _tunnel(self, row: tuple[Any, ...]) -> Tunnel:
        """The tunnel of a row of `_COLUMNS`. The drawers may have moved out of the wings of a limited caller."""
        names, (tunnel_id, label, one, other, created_at) = [Name(*row[n : n + 2]) for n in (1, 3, 5, 7)], row[9:]
        if self._within is not None:
            one = other = None
        return Tunnel(Place(*names[:2]), Place(*names[2:]), label, one, other, tunnel_id, created_at)


_ENDS = (("sw", "sr"), ("tw", "tr"))


def follow_drawers(tx: Transaction, left: list[int], room: int) -> None:
    """Let the tunnels of rooms that no live drawer stands in any more lead to the room that their drawers moved to."""
    dialect = tx.connection.dialect
    for end in ("source", "target"):
        tx.connection.execute(
            f"UPDATE tunnels SET {end} = ? WHERE {end} IN"
            f" (SELECT id FROM rooms WHERE drawers = 0 AND id IN {dialect.members('?')})",
            (room, dialect.array(left)),
        )
    tx.connection.execute("DELETE FROM tunnels WHERE source = ? AND target = ?", (room, room))
