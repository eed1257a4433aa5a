"""Rows of drawers, wings and rooms: how they are written and read.

Wings and rooms are made with their first drawer. They compare by key and are shown as first written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Drawer, DrawerVersion, Metadata, Place, Provenance, RoomCount
from mempalace_mcp.core.text import Name, normalize
from mempalace_mcp.storage.connection import Connection

HASH_BYTES = 16

PROVENANCE = tuple(field.name for field in fields(Provenance))
"""The columns of drawers and versions that the fields of `Provenance` are kept in."""

_DRAWER = ("drawer_id", "content", "added_by", "created_at", "updated_at", "deleted_at", "version", *PROVENANCE)
_VERSION = ("version", "wing", "room", "content", "replaced_at", *PROVENANCE)


def provenance_of(text: Provenance) -> dict[str, Any]:
    """The values of these columns."""
    return {name: getattr(text, name) for name in PROVENANCE}


def columns(names: Sequence[str], table: str) -> str:
    """The columns of a table, as they are listed in a statement."""
    return ", ".join(f"{table}.{name}" for name in names)


def read_drawers(connection: Connection, column: str, keys: Sequence[int | str]) -> list[Drawer]:
    """The drawers, in the trash or not, whose `id` or `drawer_id` is among the keys, in the order of the keys."""
    dialect, join = connection.dialect, connection.dialect.ordered_join
    wanted = dialect.listed("?", "wanted", int if column == "id" else str)
    rows = connection.execute(
        f"SELECT w.name, r.name, d.metadata, {columns(_DRAWER, 'd')}"
        f" FROM {wanted} {join} drawers d ON d.{column} = wanted.value"
        f" {join} wings w ON w.id = d.wing {join} rooms r ON r.id = d.room ORDER BY wanted.key",
        (dialect.array(keys),),
    )
    return [_read_drawer(row) for row in rows]


def _read_drawer(row: tuple[Any, ...]) -> Drawer:
    wing, room, metadata, *values = row
    return Drawer(wing=wing, room=room, metadata=_read_metadata(metadata), **dict(zip(_DRAWER, values, strict=True)))


def _read_metadata(written: str) -> Metadata:
    return {} if written == "{}" else json.loads(written)  # most drawers have none


def read_versions(connection: Connection, drawer_id: str) -> list[DrawerVersion]:
    """The earlier states of a drawer, oldest first."""
    rows = connection.execute(
        f"SELECT v.metadata, {columns(_VERSION, 'v')}"
        " FROM drawers d JOIN versions v ON v.drawer = d.id WHERE d.drawer_id = ? ORDER BY v.version",
        (drawer_id,),
    )
    return [
        DrawerVersion(metadata=_read_metadata(metadata), **dict(zip(_VERSION, values, strict=True)))
        for metadata, *values in rows
    ]


def content_hash(content: str) -> bytes:
    """The hash by which equal texts are found."""
    return hashlib.blake2b(content.encode(), digest_size=HASH_BYTES).digest()


def normalized_hash(content: str) -> bytes:
    """The hash by which near duplicates are found."""
    return content_hash(normalize(content))


def write_metadata(metadata: Metadata) -> str:
    """JSON, as it is stored.

    Raises:
        InvalidArgument: it is not JSON: not a number, a lone surrogate, too deep, or no JSON type at all.
    """
    try:
        written = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        written.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"metadata cannot be written as JSON: {error}",
            argument="metadata",
            hint="Use an object of texts, finite numbers, true, false, null, arrays and objects.",
        ) from None
    return written


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """The rows of a wing and of one of its rooms."""

    wing: int
    room: int


def find_place(connection: Connection, place: Place) -> PlaceRow | None:
    """The rows of a place, if there is one by these keys."""
    row = connection.execute(
        "SELECT w.id, r.id FROM wings w JOIN rooms r ON r.wing = w.id WHERE w.key = ? AND r.key = ?",
        (place.wing.key, place.room.key),
    ).fetchone()
    return PlaceRow(*row) if row else None


def ensure_place(connection: Connection, place: Place) -> PlaceRow:
    """The rows of a place, made if they are missing."""
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


def find_wing(connection: Connection, key: str) -> Name | None:
    """The wing of that key."""
    row = connection.execute("SELECT name, key FROM wings WHERE key = ?", (key,)).fetchone()
    return Name(*row) if row else None


def find_room(connection: Connection, wing: str, room: str) -> Place | None:
    """The room of these keys."""
    row = connection.execute(
        "SELECT w.name, w.key, r.name, r.key FROM wings w JOIN rooms r ON r.wing = w.id WHERE w.key = ? AND r.key = ?",
        (wing, room),
    ).fetchone()
    return Place(Name(*row[:2]), Name(*row[2:])) if row else None


def read_taxonomy(connection: Connection, wing: str | None) -> list[RoomCount]:
    """Rooms with live drawers, of one wing by key or of all, by name."""
    rows = connection.execute(
        "SELECT w.name, r.name, r.drawers FROM rooms r JOIN wings w ON w.id = r.wing"
        " WHERE r.drawers > 0 AND w.key = coalesce(?, w.key) ORDER BY w.key, r.key",
        (wing,),
    )
    return [RoomCount(*row) for row in rows]
