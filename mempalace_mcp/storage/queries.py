"""Queries on drawers: listings, pages, counts, duplicates, completions and changes.

A `DrawerFilter` becomes conditions on the table `drawers` under the name `d`; they hold for live drawers only. Cursors
are opaque to clients and bound to the query that they were made for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import (
    Changes,
    Completion,
    Drawer,
    DrawerFilter,
    DrawerVersion,
    Duplicate,
    Page,
    Place,
    RoomCount,
)
from mempalace_mcp.core.text import Name, name_key
from mempalace_mcp.storage import rows
from mempalace_mcp.storage import rows as places
from mempalace_mcp.storage.connection import Connection, Dialect
from mempalace_mcp.storage.successors import newest_successors
from mempalace_mcp.storage.transactions import Stamp

Position = tuple[int, ...]
"""The sort key of the last row that was shown."""

GREATEST = 2**63 - 1
"""No part of a sort key is beyond it, nor below its negative."""


def encode_cursor(position: Position, question: object) -> str:
    """The cursor for what follows a position in the listing that answers `question` (told apart by its repr)."""
    return base64.urlsafe_b64encode(_layout(position).pack(*position, _fingerprint(question))).decode("ascii")


def decode_cursor(cursor: str | None, question: object, beginning: Position) -> Position:
    """The position a cursor stands for; without a cursor, the beginning, which has as many parts.

    Raises:
        InvalidArgument: it is no cursor, or one of another listing.
    """
    if cursor is None:
        return beginning
    try:
        packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        *position, fingerprint = _layout(beginning).unpack(packed)
    except (UnicodeEncodeError, binascii.Error, struct.error):
        raise _refusal("is not a cursor that this palace has given") from None
    if fingerprint != _fingerprint(question):
        raise _refusal("belongs to a listing with other filters")
    return tuple(position)


def _layout(position: Position) -> struct.Struct:
    return struct.Struct(f">{len(position)}q8s")


def _fingerprint(question: object) -> bytes:
    return hashlib.blake2b(repr(question).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _refusal(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"cursor {problem}",
        argument="cursor",
        hint="Give the next_cursor of the last page together with the same filters, or leave it out to begin anew.",
    )


@dataclass(frozen=True, slots=True)
class Condition:
    """The text after WHERE, the values of its named parameters, and what stands behind the table so that its rows are
    read in the order of time."""

    sql: str
    values: dict[str, Any]
    by_index: str

    @property
    def source(self) -> str:
        """What stands between FROM and the rest of a query that reads drawers alone."""
        return f"drawers d {self.by_index} WHERE {self.sql}"


def condition_of(drawers: DrawerFilter, dialect: Dialect) -> Condition:
    """Live drawers that match. An unknown wing or room matches nothing."""
    clauses = {
        "d.wing = (SELECT id FROM wings WHERE key = :wing)": drawers.wing,
        f"d.wing IN (SELECT w.id FROM wings w WHERE w.key IN {dialect.members(':within', str)})": drawers.within,
        "d.room IN (SELECT id FROM rooms WHERE key = :room)": drawers.room,
        **_beside_place(drawers),
    }
    sql = " AND ".join(["d.deleted_at IS NULL", *_given(clauses)])
    return Condition(sql, _values(drawers, dialect), dialect.by_index(_index_for(drawers)))


def conditions_by_room(connection: Connection, drawers: DrawerFilter) -> list[Condition]:
    """The same drawers as `condition_of`, as one condition per room that they may stand in.

    Each condition has at most one place, so that its index gives its drawers in the order of time.
    """
    dialect = connection.dialect
    if drawers.room is None:
        return [condition_of(drawers, dialect)]
    sql = " AND ".join(["d.room = :one_room", "d.deleted_at IS NULL", *_given(_beside_place(drawers))])
    values, index = _values(drawers, dialect), dialect.by_index(_index_for(drawers))
    return [Condition(sql, values | {"one_room": room}, index) for room, _ in rooms_of(connection, drawers)]


def count_drawers(connection: Connection, drawers: DrawerFilter, most: int | None = None) -> int:
    """How many live drawers match; read off the rooms where only the place matters. Counts no further than `most`."""
    if not _given(_beside_place(drawers)):
        return sum(count for _, count in rooms_of(connection, drawers))
    condition = condition_of(drawers, connection.dialect)
    if most is None:
        row = connection.execute(f"SELECT count(*) FROM {condition.source}", condition.values).fetchone()
    else:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {condition.source} LIMIT :most) AS counted"
        row = connection.execute(sql, condition.values | {"most": most}).fetchone()
    return int(row[0])


def _index_for(drawers: DrawerFilter) -> str:
    """By the most telling of the conditions; the planner has no statistics to choose by."""
    if drawers.source_file is not None:
        return "drawers_by_source"
    if drawers.room is not None:
        return "drawers_by_room"
    return "drawers_by_when" if drawers.wing is None else "drawers_by_wing"


def rooms_of(connection: Connection, drawers: DrawerFilter) -> list[tuple[int, int]]:
    """The rooms that the place of a filter means, by row, each with the number of its live drawers."""
    dialect = connection.dialect
    clauses = {
        "w.key = :wing": drawers.wing,
        f"w.key IN {dialect.members(':within', str)}": drawers.within,
        "r.key = :room": drawers.room,
    }
    where = " AND ".join(_given(clauses)) or "true"
    return connection.execute(
        f"SELECT r.id, r.drawers FROM rooms r JOIN wings w ON w.id = r.wing WHERE {where}", _values(drawers, dialect)
    ).fetchall()


def _beside_place(drawers: DrawerFilter) -> dict[str, Any]:
    return {
        "d.source_file = :source_file": drawers.source_file,
        "d.when_at >= :since": drawers.since,
        "d.when_at < :before": drawers.before,
    }


def _given(clauses: Mapping[str, Any]) -> list[str]:
    return [clause for clause, value in clauses.items() if value is not None]


def _values(drawers: DrawerFilter, dialect: Dialect) -> dict[str, Any]:
    return {
        "wing": drawers.wing,
        "within": None if drawers.within is None else dialect.array(drawers.within),
        "room": drawers.room,
        "source_file": drawers.source_file,
        "since": drawers.since,
        "before": drawers.before,
    }


_AFTER_ALL_TEXT = "\U0010ffff"

_WINGS = """
    SELECT key, name FROM wings
    WHERE EXISTS (SELECT 1 FROM rooms WHERE rooms.wing = wings.id AND rooms.drawers > 0) AND {in_wings}
"""
_ROOMS = """
    SELECT rooms.key, min(rooms.name) AS name FROM rooms JOIN wings ON wings.id = rooms.wing
    WHERE rooms.drawers > 0 AND {in_wings} GROUP BY rooms.key
"""
_ROOMS_OF_WING = """
    SELECT rooms.key, rooms.name FROM rooms JOIN wings ON wings.id = rooms.wing
    WHERE rooms.drawers > 0 AND wings.key = :wing AND {in_wings}
"""
_ENTITIES = "SELECT key, name FROM entities"

# From one agent to the next through the index, past all entries of each.
_AGENTS = """
    WITH RECURSIVE agents (key) AS (
        SELECT min(agent) FROM diary
        UNION ALL SELECT (SELECT min(agent) FROM diary WHERE agent > agents.key) FROM agents WHERE key IS NOT NULL
    )
    SELECT key, (SELECT name FROM diary WHERE agent = agents.key ORDER BY drawer LIMIT 1) AS name FROM agents
    WHERE EXISTS (
        SELECT 1 FROM diary JOIN drawers ON drawers.id = diary.drawer JOIN wings ON wings.id = drawers.wing
        WHERE diary.agent = agents.key AND drawers.deleted_at IS NULL AND {in_wings}
    )
"""


class Names:
    """Completes names of what is live, without case, at most `limit` of them, in alphabetical order of their keys.

    `within` are the only wings, by key, that count; entities belong to none of them.
    """

    def __init__(self, within: Sequence[str] | None = None) -> None:
        self._within = within

    def wings(self, connection: Connection, begun: str, limit: int) -> Completion:
        """Wings with drawers in them."""
        return self._complete(connection, _WINGS, begun, limit)

    def rooms(self, connection: Connection, begun: str, limit: int, wing: str | None = None) -> Completion:
        """Rooms with drawers in them, of one wing by key or of all; those of the same name are one."""
        return self._complete(connection, _ROOMS if wing is None else _ROOMS_OF_WING, begun, limit, wing)

    def agents(self, connection: Connection, begun: str, limit: int) -> Completion:
        """Agents that have written in their diary."""
        return self._complete(connection, _AGENTS, begun, limit)

    def entities(self, connection: Connection, begun: str, limit: int) -> Completion:
        """Entities of the knowledge graph."""
        if self._within is not None:
            return Completion([], 0)
        return self._complete(connection, _ENTITIES, begun, limit)

    def _complete(
        self, connection: Connection, source: str, begun: str, limit: int, wing: str | None = None
    ) -> Completion:
        key, dialect = name_key(begun.lstrip()), connection.dialect
        values = {"key": key, "beyond": key + _AFTER_ALL_TEXT, "wing": wing}
        in_wings = "true"
        if self._within is not None:
            in_wings = f"wings.key IN {dialect.members(':within', str)}"
            values["within"] = dialect.array(self._within)
        source, holds = source.format(in_wings=in_wings), f"{dialect.position('key', ':key')} > 0"

        def names(condition: str, count: int) -> list[str]:
            sql = f"SELECT name FROM ({source}) AS names WHERE {condition} ORDER BY key LIMIT :count"
            return [name for (name,) in connection.execute(sql, {**values, "count": count})]

        found = names("key BETWEEN :key AND :beyond", limit)
        if key and len(found) < limit:
            found += names(f"{holds} AND key NOT BETWEEN :key AND :beyond", limit - len(found))
        sql = f"SELECT count(*) FROM ({source}) AS names WHERE {holds}"
        (total,) = connection.execute(sql, values).fetchone()
        return Completion(found, total)


NEWEST: Position = (GREATEST, GREATEST)
"""Before the newest drawer there can be: its instant and row."""

ALL = GREATEST
"""As a limit: everything there is."""


def newest_beginnings(connection: Connection, limit: int, characters: int) -> list[str]:
    """So many characters of each of the drawers that were filed last."""
    rows = connection.execute(
        "SELECT substr(content, 1, ?) FROM drawers WHERE deleted_at IS NULL ORDER BY id DESC LIMIT ?",
        (characters, limit),
    )
    return [text for (text,) in rows]


class DrawerListing:
    """Reads drawers. Newest means latest `occurred_at`, else `created_at`; then latest filed.

    `_within` are the only wings, by key, whose drawers are shown; None means all.
    """

    _within: tuple[str, ...] | None = None

    def get(self, connection: Connection, drawer_ids: Sequence[str], *, deleted: bool = False) -> list[Drawer]:
        """Drawers by id, in the order asked, those not found left out; with `deleted` also those in the trash."""
        drawers = self._read(connection, "drawer_id", drawer_ids)
        return [drawer for drawer in drawers if deleted or drawer.deleted_at is None]

    def page(self, connection: Connection, filter: DrawerFilter, limit: int, cursor: str | None) -> Page[Drawer]:
        """Live drawers that match, newest first.

        Raises:
            InvalidArgument: the cursor is none, or one of another filter.
        """
        keys = newest(connection, filter, limit + 1, decode_cursor(cursor, filter.question, NEWEST))
        shown = keys[:limit]
        return Page(
            items=self._read(connection, "id", [drawer for _, drawer in shown]),
            total=count_drawers(connection, filter),
            next_cursor=encode_cursor(shown[-1], filter.question) if len(keys) > limit else None,
        )

    def matching(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[str]:
        """Ids of live drawers that match, newest first; all of them when the limit is `ALL`."""
        dialect = connection.dialect
        found = connection.execute(
            f"SELECT d.drawer_id FROM {dialect.listed('?', 'wanted')}"
            f" {dialect.ordered_join} drawers d ON d.id = wanted.value ORDER BY wanted.key",
            (dialect.array([drawer for _, drawer in newest(connection, filter, limit)]),),
        )
        return [row[0] for row in found]

    def count(self, connection: Connection, filter: DrawerFilter) -> int:
        """How many live drawers match."""
        return count_drawers(connection, filter)

    def versions(self, connection: Connection, drawer_id: str) -> list[DrawerVersion]:
        """The earlier states of a drawer, oldest first."""
        return rows.read_versions(connection, drawer_id)

    def duplicates(self, connection: Connection, content: str, filter: DrawerFilter, limit: int) -> list[Duplicate]:
        """Live drawers that say the same, byte for byte or after normalization: the exact ones first, newest first."""
        condition = condition_of(filter, connection.dialect)
        found = connection.execute(
            f"SELECT d.id, d.content_hash = :exact FROM drawers d WHERE d.normalized_hash = :normalized"
            f" AND {condition.sql} ORDER BY 2 DESC, d.when_at DESC, d.id DESC LIMIT :limit",
            condition.values
            | {"exact": rows.content_hash(content), "normalized": rows.normalized_hash(content), "limit": limit},
        ).fetchall()
        drawers = self._read(connection, "id", [row[0] for row in found])
        kinds = ["exact" if exact else "normalized" for _, exact in found]
        return [Duplicate(drawer, kind, 1.0) for drawer, kind in zip(drawers, kinds, strict=True)]

    def successors(self, connection: Connection, drawer_ids: Sequence[str]) -> dict[str, str]:
        """The newest live drawers that have taken the place of the drawers that are superseded."""
        return newest_successors(connection, drawer_ids, self._within)

    def _read(self, connection: Connection, column: str, keys: Sequence[int | str]) -> list[Drawer]:
        """The drawers of these keys, as they stand to others now."""
        drawers = rows.read_drawers(connection, column, keys)
        superseded = [drawer.drawer_id for drawer in drawers if drawer.superseded_by is not None]
        if not superseded:
            return drawers
        newest = self.successors(connection, superseded)
        return [replace(drawer, superseded_by=newest.get(drawer.drawer_id)) for drawer in drawers]

    def taxonomy(self, connection: Connection, wing: str | None) -> list[RoomCount]:
        """Rooms with live drawers, of one wing by key or of all, by name."""
        return places.read_taxonomy(connection, wing)

    def find_wing(self, connection: Connection, key: str) -> Name | None:
        """The wing of that key, also an empty one."""
        return places.find_wing(connection, key)

    def find_room(self, connection: Connection, wing: str, room: str) -> Place | None:
        """The room of these keys, also an empty one."""
        return places.find_room(connection, wing, room)


def newest(connection: Connection, filter: DrawerFilter, limit: int, after: Position = NEWEST) -> list[Position]:
    """Sort keys (instant, row) of the live drawers that match and follow a position, newest first."""
    keys: list[Position] = []
    for condition in conditions_by_room(connection, filter):
        keys += connection.execute(
            f"SELECT d.when_at, d.id FROM {condition.source} AND (d.when_at, d.id) < (:after, :after_id)"
            " ORDER BY d.when_at DESC, d.id DESC LIMIT :limit",
            condition.values | {"after": after[0], "after_id": after[1], "limit": limit},
        )
    keys.sort(reverse=True)
    return keys[:limit]


_BESIDE = """
    (SELECT n.id FROM drawers n {index} WHERE n.source_file = d.source_file AND n.deleted_at IS NULL
     AND (n.when_at, n.id) {side} (d.when_at, d.id) ORDER BY n.when_at {order}, n.id {order} LIMIT 1 OFFSET {offset})
"""


def neighbours(connection: Connection, drawers: Sequence[int], reach: int) -> dict[int, list[int]]:
    """For each of the drawers that has a source and one chunk: the live drawers of the source that come right before
    and after it, `reach` of each."""
    dialect, sides = connection.dialect, (("<", "DESC"), (">", "ASC"))
    index = dialect.by_index("drawers_by_source")
    beside = ", ".join(
        _BESIDE.format(index=index, side=side, order=order, offset=offset)
        for side, order in sides
        for offset in range(reach)
    )
    rows = connection.execute(
        f"SELECT d.id, {beside} FROM {dialect.listed('?', 'wanted')}"
        f" {dialect.ordered_join} drawers d ON d.id = wanted.value WHERE d.source_file IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.drawer = d.id AND c.ordinal = 1)",
        (dialect.array(drawers),),
    )
    return {drawer: [each for each in others if each is not None] for drawer, *others in rows}


def first_chunks(connection: Connection, drawers: Sequence[int], filter: DrawerFilter) -> dict[int, int]:
    """The first chunk of each of the drawers that matches."""
    condition, dialect = condition_of(filter, connection.dialect), connection.dialect
    rows = connection.execute(
        f"SELECT d.id, c.id FROM {dialect.listed(':drawers', 'wanted')}"
        f" {dialect.ordered_join} drawers d ON d.id = wanted.value {dialect.ordered_join} chunks c ON c.drawer = d.id"
        f" WHERE c.ordinal = 0 AND {condition.sql}",
        condition.values | {"drawers": dialect.array(drawers)},
    )
    return dict(rows.fetchall())


def newest_chunks(connection: Connection, filter: DrawerFilter, drawers: int) -> list[int]:
    """The chunks of up to so many of the newest live drawers that match, by number."""
    keys = [drawer for _, drawer in newest(connection, filter, drawers)]
    rows = connection.execute(
        f"SELECT id FROM chunks WHERE drawer IN {connection.dialect.members('?')} ORDER BY id",
        (connection.dialect.array(keys),),
    )
    return [chunk for (chunk,) in rows]


def changes_since(connection: Connection, stamp: Stamp, drawer_ids: Collection[str]) -> Changes:
    """The places whose drawers changed after that unit of work, those that drawers left included, and which of the
    drawers in question did. What was purged had been deleted before."""
    places = connection.execute(
        "SELECT DISTINCT w.key, r.key FROM drawers d JOIN rooms r ON r.id = d.room JOIN wings w ON w.id = d.wing"
        " WHERE d.seq > ?",
        (stamp.seq,),
    ).fetchall()
    left = connection.execute(
        "SELECT DISTINCT v.wing, v.room FROM drawers d JOIN versions v ON v.drawer = d.id"
        " WHERE d.seq > ? AND v.replaced_at > ?",
        (stamp.seq, stamp.instant),
    )
    dialect = connection.dialect
    changed = connection.execute(
        f"SELECT d.drawer_id FROM {dialect.listed('?', 'wanted', str)}"
        f" {dialect.ordered_join} drawers d ON d.drawer_id = wanted.value WHERE d.seq > ?",
        (dialect.array(list(drawer_ids)), stamp.seq),
    )
    return Changes(
        places=frozenset([*places, *((name_key(wing), name_key(room)) for wing, room in left)]),
        drawers=frozenset(drawer_id for (drawer_id,) in changed),
    )
