"""What was imported from a file before: which part of it became which drawer, and what that part said."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mempalace_mcp.storage.rows import content_hash

IMPORT_FIELD = "import"
"""The entry of a drawer's metadata that marks it as imported: `{"key": part of the file, "digest": of its text}`."""


@dataclass(frozen=True, slots=True)
class ImportedPart:
    """A drawer that came from a part of a file; `live` is False while it lies in the trash."""

    key: str
    digest: str
    drawer_id: str
    live: bool


def imported_parts(connection: sqlite3.Connection, source_file: str) -> dict[str, ImportedPart]:
    """The parts of a file by key. A live drawer wins over one in the trash, a newer one over an older."""
    rows = connection.execute(
        "SELECT metadata ->> '$.import.key', metadata ->> '$.import.digest', drawer_id, deleted_at IS NULL"
        " FROM drawers WHERE source_file = ?"
        " AND metadata ->> '$.import.key' IS NOT NULL AND metadata ->> '$.import.digest' IS NOT NULL"
        " ORDER BY deleted_at IS NULL, id",
        (source_file,),
    )
    return {key: ImportedPart(key, digest, drawer_id, bool(live)) for key, digest, drawer_id, live in rows}


def same_parts(connection: sqlite3.Connection, key: str, content: str) -> list[tuple[str, str]]:
    """The live drawers imported under that key that say just this, each with its file, the newest first."""
    return connection.execute(
        "SELECT drawer_id, source_file FROM drawers WHERE content_hash = ? AND deleted_at IS NULL AND content = ?"
        " AND metadata ->> '$.import.key' = ? AND source_file IS NOT NULL ORDER BY id DESC",
        (content_hash(content), content, key),
    ).fetchall()
