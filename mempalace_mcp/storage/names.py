"""Names that fit what somebody has begun to write: those that begin with it, then those that hold it somewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mempalace_mcp.core.model import Completion
from mempalace_mcp.core.text import name_key
from mempalace_mcp.storage.rows import json_array

_AFTER_ALL_TEXT = "\U0010ffff"

_WITHIN = "(:within IS NULL OR wings.key IN (SELECT value FROM json_each(:within)))"
_WINGS = f"""
    SELECT key, name FROM wings
    WHERE EXISTS (SELECT 1 FROM rooms WHERE rooms.wing = wings.id AND rooms.drawers > 0) AND {_WITHIN}
"""
_ROOMS = f"""
    SELECT rooms.key, min(rooms.name) AS name FROM rooms JOIN wings ON wings.id = rooms.wing
    WHERE rooms.drawers > 0 AND {_WITHIN} GROUP BY rooms.key
"""
_ROOMS_OF_WING = f"""
    SELECT rooms.key, rooms.name FROM rooms JOIN wings ON wings.id = rooms.wing
    WHERE rooms.drawers > 0 AND wings.key = :wing AND {_WITHIN}
"""
_ENTITIES = "SELECT key, name FROM entities WHERE :within IS NULL"

_AGENTS = f"""
    WITH RECURSIVE agents (key) AS (
        SELECT min(agent) FROM diary
        UNION ALL SELECT (SELECT min(agent) FROM diary WHERE agent > agents.key) FROM agents WHERE key IS NOT NULL
    )
    SELECT key, (SELECT name FROM diary WHERE agent = agents.key ORDER BY drawer LIMIT 1) AS name FROM agents
    WHERE EXISTS (
        SELECT 1 FROM diary JOIN drawers ON drawers.id = diary.drawer JOIN wings ON wings.id = drawers.wing
        WHERE diary.agent = agents.key AND drawers.deleted_at IS NULL AND {_WITHIN}
    )
"""
"""From one agent to the next through the index, past all entries of each."""


class Names:
    """Completes names of what is live, without case, at most `limit` of them, in alphabetical order of their keys.

    `within` are the only wings, by key, that count; entities belong to none of them.
    """

    def __init__(self, within: Sequence[str] | None = None) -> None:
        self._within = None if within is None else json_array(within)

    def wings(self, connection: sqlite3.Connection, begun: str, limit: int) -> Completion:
        """Wings with drawers in them."""
        return self._complete(connection, _WINGS, begun, limit)

    def rooms(self, connection: sqlite3.Connection, begun: str, limit: int, wing: str | None = None) -> Completion:
        """Rooms with drawers in them, of one wing by key or of all; those of the same name are one."""
        return self._complete(connection, _ROOMS if wing is None else _ROOMS_OF_WING, begun, limit, wing)

    def agents(self, connection: sqlite3.Connection, begun: str, limit: int) -> Completion:
        """Agents that have written in their diary."""
        return self._complete(connection, _AGENTS, begun, limit)

    def entities(self, connection: sqlite3.Connection, begun: str, limit: int) -> Completion:
        """Entities of the knowledge graph."""
        return self._complete(connection, _ENTITIES, begun, limit)

    def _complete(
        self, connection: sqlite3.Connection, source: str, begun: str, limit: int, wing: str | None = None
    ) -> Completion:
        key = name_key(begun.lstrip())
        values = {"key": key, "beyond": key + _AFTER_ALL_TEXT, "wing": wing, "within": self._within}

        def names(condition: str, count: int) -> list[str]:
            sql = f"SELECT name FROM ({source}) WHERE {condition} ORDER BY key LIMIT :count"
            return [name for (name,) in connection.execute(sql, {**values, "count": count})]

        found = names("key BETWEEN :key AND :beyond", limit)
        if key and len(found) < limit:
            found += names("instr(key, :key) > 0 AND key NOT BETWEEN :key AND :beyond", limit - len(found))
        sql = f"SELECT count(*) FROM ({source}) WHERE instr(key, :key) > 0"
        (total,) = connection.execute(sql, values).fetchone()
        return Completion(found, total)
