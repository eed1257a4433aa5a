"""Drawers on their way to other rooms: many at once, each with a version of where it stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mempalace_mcp.core.model import Place, Target
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.rows import PROVENANCE, ensure_place
from mempalace_mcp.storage.transactions import Transaction

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
        rooms: dict[Place, list[int]] = {}
        for row, *names in rows:
            rooms.setdefault(Place(Name(*names[:2]), Name(*names[2:])), []).append(row)
        return [_Standing(place, drawers) for place, drawers in rooms.items()]


def relocate(tx: Transaction, drawers: Sequence[int], place: Place) -> None:
    """Let drawers, by row, stand in a room, which is made if it is missing; where they stood becomes a version."""
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
