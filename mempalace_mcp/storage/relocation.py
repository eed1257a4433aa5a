"""Drawers on their way to other rooms: many at once, each with a version of where it stood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.core.model import Place, Renaming, Target
from mempalace_mcp.core.text import Name, name_key
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.rows import PROVENANCE, ensure_place
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.tunnels import follow_drawers

_PROVENANCE = ", ".join(PROVENANCE)
_PROVENANCE_OF_DRAWER = ", ".join(f"d.{name}" for name in PROVENANCE)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Some drawers, by row, that stand in one room."""

    place: Place
    drawers: Sequence[int]


class Relocation:
    """Moves drawers. `_within` are the only wings, by key, out of which they are moved; None means all."""

    _within: tuple[str, ...] | None = None

    def move(self, tx: Transaction, drawer_ids: Sequence[str], target: Target) -> int:
        """Move those of the drawers that are live and stand elsewhere; returns how many.

        Their ids, contents, words and vectors stay; the place they leave becomes a version.
        """
        moved = 0
        for standing in self._standing(tx.connection, drawer_ids):
            place = target.from_place(standing.place)
            if place != standing.place:
                relocate(tx, standing.drawers, place)
                moved += len(standing.drawers)
        return moved

    def look_at_renaming(self, connection: Connection, wing: Name, room: Name | None, new_name: Name) -> Renaming:
        """What renaming a wing, or one of its rooms, would do."""
        source = _Part.of(wing, room)
        target = _Part.of(new_name, None) if room is None else _Part.of(wing, new_name)
        sql, values = source.condition
        (drawers,) = connection.execute(
            f"SELECT count(*) FROM rooms r JOIN wings w ON w.id = r.wing JOIN drawers d ON d.room = r.id WHERE {sql}",
            values,
        ).fetchone()
        sql, values = target.condition
        (live,) = connection.execute(
            f"SELECT sum(r.drawers) FROM rooms r JOIN wings w ON w.id = r.wing WHERE {sql}", values
        ).fetchone()
        merges = target != source and bool(live)
        return Renaming(wing.shown, room.shown if room else None, new_name.shown, drawers, merges, dry_run=True)

    def rename(self, tx: Transaction, wing: Name, room: Name | None, new_name: Name) -> Renaming:
        """Rename a wing, or one of its rooms. Its drawers, those in the trash too, move to the new name, where others
        may stand already; where they stood becomes a version."""
        seen = self.look_at_renaming(tx.connection, wing, room, new_name)
        target = Target(new_name, None) if room is None else Target(None, new_name)
        moved = 0
        for standing in _standing_in(tx.connection, _Part.of(wing, room)):
            place = target.from_place(standing.place)
            if place != standing.place:
                relocate(tx, standing.drawers, place)
                moved += len(standing.drawers)
        if not seen.merges and new_name.shown != (room or wing).shown:
            _show_as(tx, wing, room, new_name)
        return replace(seen, dry_run=False, move_id=tx.stamp.seq if moved else None)

    def move_back(self, tx: Transaction, move_id: int) -> int:
        """Undo a move, or the renaming of a wing or room, as far as the drawers have not changed since; returns how
        many are back where they stood."""
        connection = tx.connection
        # The unit of work that moved them was their last one, and kept where they stood. A deletion keeps nothing.
        rows = connection.execute(
            "SELECT d.id, w.key, r.key, v.wing, v.room"
            " FROM drawers d JOIN versions v ON v.drawer = d.id AND v.version = d.version - 1"
            " JOIN wings w ON w.id = d.wing JOIN rooms r ON r.id = d.room"
            " WHERE d.seq = ? AND (d.deleted_at IS NULL OR d.deleted_at < d.updated_at) ORDER BY d.id",
            (move_id,),
        ).fetchall()
        rooms: dict[Place, list[int]] = {}
        for drawer, wing, room, *before in rows:
            place = Place(*(Name(name, name_key(name)) for name in before))
            known = self._within is None or {wing, place.wing.key} <= set(self._within)
            if known and (wing, room) != (place.wing.key, place.room.key):
                rooms.setdefault(place, []).append(drawer)
        for place, drawers in rooms.items():
            relocate(tx, drawers, place)
        return sum(map(len, rooms.values()))

    def _standing(self, connection: Connection, drawer_ids: Sequence[str]) -> list[_Standing]:
        """The live ones among the drawers, by room."""
        dialect = connection.dialect
        values = {"drawers": dialect.array(drawer_ids)}
        where = "d.deleted_at IS NULL"
        if self._within is not None:
            where += f" AND w.key IN {dialect.members(':within', str)}"
            values["within"] = dialect.array(self._within)
        rows = connection.execute(
            "SELECT DISTINCT d.id, w.name, w.key, r.name, r.key"
            f" FROM {dialect.listed(':drawers', 'wanted', str)}"
            f" {dialect.ordered_join} drawers d ON d.drawer_id = wanted.value"
            f" {dialect.ordered_join} wings w ON w.id = d.wing {dialect.ordered_join} rooms r ON r.id = d.room"
            f" WHERE {where} ORDER BY d.id",
            values,
        )
        return _by_room(rows)


@dataclass(frozen=True, slots=True)
class _Part:
    """A wing, or one of its rooms, by key."""

    key: tuple[str, str | None]

    @classmethod
    def of(cls, wing: Name, room: Name | None) -> _Part:
        return cls((wing.key, room.key if room else None))

    @property
    def condition(self) -> tuple[str, dict[str, str | None]]:
        """What holds for its rooms `r` and its wing `w`, with the values."""
        wing, room = self.key
        return "w.key = :wing" + ("" if room is None else " AND r.key = :room"), {"wing": wing, "room": room}


def _standing_in(connection: Connection, part: _Part) -> list[_Standing]:
    """All drawers of a wing or room, those in the trash too, by room."""
    sql, values = part.condition
    return _by_room(
        connection.execute(
            "SELECT d.id, w.name, w.key, r.name, r.key FROM wings w JOIN rooms r ON r.wing = w.id"
            f" JOIN drawers d ON d.room = r.id WHERE {sql} ORDER BY d.id",
            values,
        )
    )


def _by_room(rows: Iterable[Sequence[Any]]) -> list[_Standing]:
    """Rows of drawers, each with name and key of wing and room."""
    rooms: dict[Place, list[int]] = {}
    for row, *names in rows:
        rooms.setdefault(Place(Name(*names[:2]), Name(*names[2:])), []).append(row)
    return [_Standing(place, drawers) for place, drawers in rooms.items()]


def _show_as(tx: Transaction, wing: Name, room: Name | None, new_name: Name) -> None:
    """Show a wing, or one of its rooms, under a name with this key as that is written."""
    if room is None:
        sql, values = "UPDATE wings SET name = ? WHERE key = ?", [new_name.shown, new_name.key]
    else:
        sql = "UPDATE rooms SET name = ? WHERE key = ? AND wing = (SELECT id FROM wings WHERE key = ?)"
        values = [new_name.shown, new_name.key, wing.key]
    tx.mark_changed()
    tx.connection.execute(sql, values)


def relocate(tx: Transaction, drawers: Sequence[int], place: Place) -> None:
    """Let drawers, by row, stand in a room, which is made if it is missing; where they stood becomes a version.

    The tunnels of a room that no live drawer is left in go along.
    """
    connection, dialect = tx.connection, tx.connection.dialect
    room = ensure_place(connection, place)
    values = {
        "drawers": dialect.array(drawers),
        "wing": room.wing,
        "room": room.room,
        "instant": tx.stamp.instant,
        "seq": tx.stamp.seq,
    }
    members = dialect.members(":drawers")
    left = connection.execute(f"SELECT DISTINCT room FROM drawers WHERE id IN {members}", values).fetchall()
    connection.execute(
        f"INSERT INTO versions (drawer, version, wing, room, replaced_at, metadata, content, {_PROVENANCE})"
        f" SELECT d.id, d.version, w.name, r.name, :instant, d.metadata, d.content, {_PROVENANCE_OF_DRAWER}"
        f" FROM drawers d JOIN wings w ON w.id = d.wing JOIN rooms r ON r.id = d.room WHERE d.id IN {members}",
        values,
    )
    connection.execute(
        "UPDATE drawers SET version = version + 1, wing = :wing, room = :room, updated_at = :instant, seq = :seq"
        f" WHERE id IN {members}",
        values,
    )
    follow_drawers(tx, [each for (each,) in left], room.room)
