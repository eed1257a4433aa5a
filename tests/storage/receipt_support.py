"""Keys and units for tests of receipts."""

from __future__ import annotations

from mempalace_mcp.core.call_context import Deadline, IdempotencyKey
from mempalace_mcp.storage.sqlite.database import Database

DIGEST = b"of the request  "


def keyed(key: str, digest: bytes = DIGEST, scope: str = "tests", seconds: float = 20) -> Deadline:
    """A call under a key, with time enough."""
    return Deadline(seconds, idempotency_key=IdempotencyKey(scope, key, digest))


def receipts(database: Database) -> list[tuple[str, str]]:
    """Scope and key of all that are kept, by age."""
    with database.read() as connection:
        return connection.execute("SELECT scope, key FROM receipts ORDER BY recorded_at, scope, key").fetchall()
