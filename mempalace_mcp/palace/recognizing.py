"""Finds the drawers that earlier versions filed from transcripts, without the keys of the records they hold.

They are known by when the exchange began and by what they say. What several of them say, because several files held it,
is folded into one; the others go into the trash, except those that a fact names as its source or somebody has edited.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mempalace_mcp.palace.importers import Document
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.sources import ImportedDrawer

_LABEL = re.compile(r"(?:User|Assistant): ")


@dataclass(frozen=True, slots=True)
class Recognized:
    """The drawer of each record by its key, the digests of the records, drawers to fold and into which, and those that
    need not be looked for again."""

    homes: Mapping[int, int] = field(default_factory=dict)
    digests: Mapping[int, int] = field(default_factory=dict)
    folds: Sequence[tuple[ImportedDrawer, int]] = ()
    settled: frozenset[int] = frozenset()


def covers(text: str, older: str) -> bool:
    """Does the text say all that the older one says, line by line and in that order, whatever it says in between?"""
    if text.startswith(older):
        return True
    position = 0
    for line in older.splitlines():
        said = _LABEL.sub("", line, count=1).strip()
        found = text.find(said, position)
        if found < 0:
            return False
        position = found + len(said)
    return True


def recognize(
    connection: sqlite3.Connection, document: Document, known: Mapping[int, int | None], path: str
) -> Recognized:
    """Which drawers of earlier versions say what the document says; `known` are the drawers of records that are."""
    if not sources.has_unidentified(connection):
        return Recognized()
    times = {each.said_at for each in document.said} | {document.occurred_at}
    text = document.said[0].text if document.occurred_at is None else None
    found = sources.unidentified(connection, sorted(time for time in times if time is not None), path, text)
    if not found:
        return Recognized()
    texts = {row: sources.imported_text(connection, drawer) for row, drawer in found.items()}
    cited = {row for row, drawer in found.items() if len(found) > 1 and sources.is_cited(connection, drawer.drawer_id)}
    ranked = sorted(
        found.values(),
        key=lambda each: (not each.live, each.row not in cited, not each.edited, -len(each.content), each.row),
    )
    homes: dict[int, int] = {}
    for said in document.said:
        home = next((each.row for each in ranked if said.text in texts[each.row]), None)
        if said.key not in known and home is not None:
            homes[said.key] = home
    holders = sources.imported_drawers(
        connection, {*homes.values(), *(row for row in known.values() if row is not None)}
    )
    folds, settled = [], set(homes.values())
    for drawer in ranked:
        if drawer.row in settled:
            continue
        into = next(
            (each.row for each in holders.values() if each.live and covers(each.content, texts[drawer.row])), None
        )
        if into is None:
            continue
        settled.add(drawer.row)
        if drawer.live and not drawer.edited and drawer.row not in cited:
            folds.append((drawer, into))
    return Recognized(homes, {said.key: said.digest for said in document.said}, folds, frozenset(settled))
