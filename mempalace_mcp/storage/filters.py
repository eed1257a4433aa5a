"""A `DrawerFilter` as SQL: conditions on the table `drawers` under the name `d`, which hold for live drawers only."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.rows import json_array

_WITHIN = "w.key IN (SELECT value FROM json_each(:within))"


@dataclass(frozen=True, slots=True)
class Condition:
    """The text after WHERE, the values of its named parameters, and the index that answers it in the order of time."""

    sql: str
    values: dict[str, Any]
    index: str

    @property
    def source(self) -> str:
        """What stands between FROM and the rest of a query that reads drawers alone."""
        return f"drawers d INDEXED BY {self.index} WHERE {self.sql}"


def condition_of(drawers: DrawerFilter) -> Condition:
    """Live drawers that match. A wing or room that nobody has matches nothing."""
    clauses = {
        "d.wing = (SELECT id FROM wings WHERE key = :wing)": drawers.wing,
        f"d.wing IN (SELECT w.id FROM wings w WHERE {_WITHIN})": drawers.within,
        "d.room IN (SELECT id FROM rooms WHERE key = :room)": drawers.room,
        **_beside_place(drawers),
    }
    return Condition(" AND ".join(["d.deleted_at IS NULL", *_given(clauses)]), _values(drawers), _index_for(drawers))


def conditions_by_room(connection: sqlite3.Connection, drawers: DrawerFilter) -> list[Condition]:
    """The same drawers as `condition_of`, as one condition per room that they may stand in.

    Each condition has at most one place, so that its index gives its drawers in the order of time.
    """
    if drawers.room is None:
        return [condition_of(drawers)]
    sql = " AND ".join(["d.room = :one_room", "d.deleted_at IS NULL", *_given(_beside_place(drawers))])
    values, index = _values(drawers), _index_for(drawers)
    return [Condition(sql, values | {"one_room": room}, index) for room, _ in rooms_of(connection, drawers)]


def count_drawers(connection: sqlite3.Connection, drawers: DrawerFilter) -> int:
    """How many live drawers match; read off the rooms where only the place matters."""
    if not _given(_beside_place(drawers)):
        return sum(count for _, count in rooms_of(connection, drawers))
    condition = condition_of(drawers)
    row = connection.execute(f"SELECT count(*) FROM {condition.source}", condition.values).fetchone()
    return int(row[0])


def _index_for(drawers: DrawerFilter) -> str:
    """By the most telling of the conditions; the planner has no statistics to choose by."""
    if drawers.source_file is not None:
        return "drawers_by_source"
    if drawers.room is not None:
        return "drawers_by_room"
    return "drawers_by_when" if drawers.wing is None else "drawers_by_wing"


def rooms_of(connection: sqlite3.Connection, drawers: DrawerFilter) -> list[tuple[int, int]]:
    """The rooms that the place of a filter means, by row, each with the number of its live drawers."""
    clauses = {"w.key = :wing": drawers.wing, _WITHIN: drawers.within, "r.key = :room": drawers.room}
    where = " AND ".join(_given(clauses)) or "true"
    return connection.execute(
        f"SELECT r.id, r.drawers FROM rooms r JOIN wings w ON w.id = r.wing WHERE {where}", _values(drawers)
    ).fetchall()


def _beside_place(drawers: DrawerFilter) -> dict[str, Any]:
    return {
        "d.source_file = :source_file": drawers.source_file,
        "d.when_at >= :since": drawers.since,
        "d.when_at < :before": drawers.before,
    }


def _given(clauses: Mapping[str, Any]) -> list[str]:
    return [clause for clause, value in clauses.items() if value is not None]


def _values(drawers: DrawerFilter) -> dict[str, Any]:
    return {
        "wing": drawers.wing,
        "within": None if drawers.within is None else json_array(drawers.within),
        "room": drawers.room,
        "source_file": drawers.source_file,
        "since": drawers.since,
        "before": drawers.before,
    }
