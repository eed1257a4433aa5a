"""A `DrawerFilter` as SQL: conditions on the table `drawers` under the name `d`, which hold for live drawers only."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.core.model import DrawerFilter


@dataclass(frozen=True, slots=True)
class Condition:
    """The text after WHERE, and the values of its named parameters."""

    sql: str
    values: dict[str, Any]


def condition_of(drawers: DrawerFilter) -> Condition:
    """Live drawers that match. A wing or room that nobody has matches nothing."""
    clauses = {
        "d.wing = (SELECT id FROM wings WHERE key = :wing)": drawers.wing,
        "d.room IN (SELECT id FROM rooms WHERE key = :room)": drawers.room,
        **_beside_place(drawers),
    }
    return Condition(" AND ".join(["d.deleted_at IS NULL", *_given(clauses)]), _values(drawers))


def conditions_by_room(connection: sqlite3.Connection, drawers: DrawerFilter) -> list[Condition]:
    """The same drawers as `condition_of`, as one condition per room that they may stand in.

    Each condition has at most one place, so that an index gives its drawers in the order of time.
    """
    values = _values(drawers)
    clauses = ["d.deleted_at IS NULL", *_given(_beside_place(drawers))]
    if drawers.room is not None:
        sql = " AND ".join(["d.room = :one_room", *clauses])
        return [Condition(sql, values | {"one_room": room}) for room, _ in _rooms(connection, drawers)]
    if drawers.wing is not None:
        clauses.insert(0, "d.wing = (SELECT id FROM wings WHERE key = :wing)")
    return [Condition(" AND ".join(clauses), values)]


def count_drawers(connection: sqlite3.Connection, drawers: DrawerFilter) -> int:
    """How many live drawers match; read off the rooms where only the place matters."""
    if not _given(_beside_place(drawers)):
        return sum(count for _, count in _rooms(connection, drawers))
    condition = condition_of(drawers)
    row = connection.execute(f"SELECT count(*) FROM drawers d WHERE {condition.sql}", condition.values).fetchone()
    return int(row[0])


def _rooms(connection: sqlite3.Connection, drawers: DrawerFilter) -> list[tuple[int, int]]:
    """The rooms that the place of a filter means, with their live drawers."""
    clauses = {"w.key = :wing": drawers.wing, "r.key = :room": drawers.room}
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


def _given(clauses: dict[str, Any]) -> list[str]:
    return [clause for clause, value in clauses.items() if value is not None]


def _values(drawers: DrawerFilter) -> dict[str, Any]:
    return {
        "wing": drawers.wing,
        "room": drawers.room,
        "source_file": drawers.source_file,
        "since": drawers.since,
        "before": drawers.before,
    }
