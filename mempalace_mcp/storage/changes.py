"""What has become of drawers since a moment, seen from any process: each unit of work leaves its number in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from mempalace_mcp.core.model import Changes
from mempalace_mcp.core.text import name_key
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.transaction import Stamp


def changes_since(connection: sqlite3.Connection, stamp: Stamp, drawer_ids: Collection[str]) -> Changes:
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
    changed = connection.execute(
        "SELECT d.drawer_id FROM json_each(?) AS wanted CROSS JOIN drawers d ON d.drawer_id = wanted.value"
        " WHERE d.seq > ?",
        (json_array(list(drawer_ids)), stamp.seq),
    )
    return Changes(
        places=frozenset([*places, *((name_key(wing), name_key(room)) for wing, room in left)]),
        drawers=frozenset(drawer_id for (drawer_id,) in changed),
    )
