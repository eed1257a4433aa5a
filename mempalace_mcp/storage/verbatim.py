"""Finding drawers by characters that are no words: a look at the contents themselves."""

from __future__ import annotations

import sqlite3
import time

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.filters import condition_of

SECONDS = 0.3
"""How long contents are read: some 100,000 short drawers."""


def find_verbatim(
    connection: sqlite3.Connection, text: str, limit: int, filter: DrawerFilter, seconds: float = SECONDS
) -> tuple[list[int], bool]:
    """The chunks of up to `limit` live drawers that hold a text as it is, the latest first, and whether all that came
    into question were read."""
    condition = condition_of(filter)
    rows = connection.execute(
        f"SELECT d.id, instr(d.content, :text) FROM drawers d WHERE {condition.sql} ORDER BY d.id DESC",
        condition.values | {"text": text},
    )
    end = time.monotonic() + seconds
    found: list[int] = []
    for drawer, place in rows:
        if place:
            chunk = connection.execute(
                "SELECT id FROM chunks WHERE drawer = ? ORDER BY start >= ?, start DESC LIMIT 1", (drawer, place)
            ).fetchone()
            found += chunk or ()
        if len(found) == limit:
            break
        if time.monotonic() > end:
            return found, False
    return found, True
