"""Bringing passages to the words by which this version finds them, some at a time, the latest first."""

from __future__ import annotations

from mempalace_mcp.core.model import Span
from mempalace_mcp.storage import bm25
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.passages import read_texts
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.terms import passage_text
from mempalace_mcp.storage.transaction import Transaction


def reword_stale(tx: Transaction, lexicon: Lexicon, limit: int) -> int:
    """Index up to `limit` passages anew that an earlier version has indexed; returns how many were looked at.

    What it has done it does not do again, whoever ends when. Nobody hears of it: nothing that is said has changed.
    """
    connection = tx.connection
    stale = bm25.read_collection(connection).stale
    if not stale:
        return 0
    chunks = connection.execute(
        "SELECT id, drawer, start, stop FROM chunks WHERE id <= ? ORDER BY id DESC LIMIT ?", (stale, limit)
    ).fetchall()
    drawers = connection.execute(
        "SELECT id, content, occurred_at, source_file FROM drawers WHERE id IN (SELECT value FROM json_each(?))",
        (json_array(list({drawer for _, drawer, _, _ in chunks})),),
    )
    said = {row[0]: row[1:] for row in drawers}
    old = read_texts(connection, [chunk for chunk, _, _, _ in chunks])
    new: dict[int, str] = {}
    for chunk, drawer, start, stop in chunks:
        content, occurred_at, source_file = said[drawer]
        new[chunk] = passage_text(content, Span(start, stop), occurred_at, source_file, lexicon.zone)
    changed = [chunk for chunk, text in new.items() if text != old.get(chunk)]
    lexicon.remove(tx, changed)
    for chunk in changed:
        lexicon.add(tx, chunk, new[chunk])
    bm25.note_reworded(tx, chunks[-1][0] - 1 if len(chunks) == limit else 0)
    return max(len(chunks), 1)
