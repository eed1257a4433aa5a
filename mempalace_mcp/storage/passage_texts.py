"""What chunks are indexed by, read from the drawers that they belong to."""

from __future__ import annotations

from collections.abc import Sequence

from mempalace_mcp.core.clock import Zone
from mempalace_mcp.core.model import Span
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.query_terms import passage_text

ChunkPlace = tuple[int, int, int, int]
"""A chunk, its drawer's row, and its half-open span of characters there."""


def passage_texts(connection: Connection, chunks: Sequence[ChunkPlace], zone: Zone) -> dict[int, str]:
    """The texts of passages, by chunk. `zone` is the one in which days are words of what happened in them."""
    dialect = connection.dialect
    drawers = connection.execute(
        f"SELECT id, content, occurred_at, source_file FROM drawers WHERE id IN {dialect.members('?')}",
        (dialect.array(list({drawer for _, drawer, _, _ in chunks})),),
    )
    said = {row[0]: row[1:] for row in drawers}
    texts: dict[int, str] = {}
    for chunk, drawer, start, stop in chunks:
        content, occurred_at, source_file = said[drawer]
        texts[chunk] = passage_text(content, Span(start, stop), occurred_at, source_file, zone)
    return texts
