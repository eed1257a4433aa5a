"""Wings and rooms: made when the first drawer needs them, compared by key, shown as first written."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mempalace_mcp.core.model import Place, RoomCount
from mempalace_mcp.core.text import Name


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """The rows of a wing and of one of its rooms."""

    wing: int
    room: int


def find_place(connection: sqlite3.Connection, place: Place) -> PlaceRow | None:
    """The rows of a place, if there is one by these keys."""
    row = connection.execute(
        "SELECT w.id, r.id FROM wings w JOIN rooms r ON r.wing = w.id WHERE w.key = ? AND r.key = ?",
        (place.wing.key, place.room.key),
    ).fetchone()
    return PlaceRow(*row) if row else None


def ensure_place(connection: sqlite3.Connection, place: Place) -> PlaceRow:
    """The rows of a place, made now if nobody has named it before."""
    found = find_place(connection, place)
    if found:
        return found
    connection.execute(
        "INSERT INTO wings (key, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (place.wing.key, place.wing.shown)
    )
    (wing,) = connection.execute("SELECT id FROM wings WHERE key = ?", (place.wing.key,)).fetchone()
    (room,) = connection.execute(
        "INSERT INTO rooms (wing, key, name) VALUES (?, ?, ?) RETURNING id", (wing, place.room.key, place.room.shown)
    ).fetchone()
    return PlaceRow(wing, room)


def find_wing(connection: sqlite3.Connection, key: str) -> Name | None:
    """The wing of that key."""
    row = connection.execute("SELECT name, key FROM wings WHERE key = ?", (key,)).fetchone()
    return Name(*row) if row else None


def find_room(connection: sqlite3.Connection, wing: str, room: str) -> Place | None:
    """The room of these keys."""
    row = connection.execute(
        "SELECT w.name, w.key, r.name, r.key FROM wings w JOIN rooms r ON r.wing = w.id WHERE w.key = ? AND r.key = ?",
        (wing, room),
    ).fetchone()
    return Place(Name(*row[:2]), Name(*row[2:])) if row else None


def read_taxonomy(connection: sqlite3.Connection, wing: str | None) -> list[RoomCount]:
    """Rooms with live drawers, of one wing by key or of all, by name."""
    rows = connection.execute(
        "SELECT w.name, r.name, r.drawers FROM rooms r JOIN wings w ON w.id = r.wing"
        " WHERE r.drawers > 0 AND w.key = coalesce(?, w.key) ORDER BY w.key, r.key",
        (wing,),
    )
    return [RoomCount(*row) for row in rows]
