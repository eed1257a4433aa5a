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
_LABELS = re.compile(r"(?:\A|(?<=\n\n))(?:User|Assistant): ")


@dataclass(frozen=True, slots=True)
class Recognized:
    """The drawer of each record by its key, the digests of the records, what the drawers that were looked at say, and
    which of them may be folded or need not be looked for again."""

    homes: Mapping[int, int] = field(default_factory=dict)
    digests: Mapping[int, int] = field(default_factory=dict)
    texts: Mapping[int, str] = field(default_factory=dict)
    found: Sequence[ImportedDrawer] = ()
    cited: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Folding:
    """Drawers to fold and into which, and those that need not be looked for again."""

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
    unknown = [said for said in document.said if said.key not in known and said.key not in homes]
    if unknown and document.occurred_at is not None:
        before = sources.unidentified_before(connection, document.occurred_at, path)
        earlier = {row: sources.imported_text(connection, drawer) for row, drawer in before.items()}
        for said in unknown:
            home = next((row for row, older in earlier.items() if _says(older, said.text)), None)
            if home is not None:
                homes[said.key] = home
        begun = {before[row].occurred_at for row in homes.values() if row in before}
        ranked += (drawer for drawer in before.values() if drawer.occurred_at in begun)
        texts |= earlier
    digests = {said.key: said.digest for said in document.said if said.key in homes}
    return Recognized(homes, digests, texts, ranked, frozenset(cited))


def fold(recognized: Recognized, document: Document, contents: Mapping[int, str]) -> Folding:
    """What becomes of the drawers that were looked at; `contents` is what the live drawers of the document say now.

    One that says more than the document is looked for again: earlier versions began some exchanges elsewhere.
    """
    folds: list[tuple[ImportedDrawer, int]] = []
    homes = set(recognized.homes.values())
    settled = {row for row in homes if covers(document.content, recognized.texts[row])}
    for drawer in recognized.found:
        if drawer.row in homes:
            continue
        older = recognized.texts[drawer.row]
        into = next((row for row, text in contents.items() if row != drawer.row and covers(text, older)), None)
        if into is None:
            continue
        settled.add(drawer.row)
        if drawer.live and not drawer.edited and drawer.row not in recognized.cited:
            folds.append((drawer, into))
    return Folding(folds, frozenset(settled))


def _says(text: str, said: str) -> bool:
    """Does the text have these words as paragraphs of their own?"""
    paragraphs = f"\n\n{_LABELS.sub('', text)}\n\n"
    return f"\n\n{said}\n\n" in paragraphs or f"\n\n{said.strip()}\n\n" in paragraphs
