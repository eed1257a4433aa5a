"""What is to be done about an exchange from a transcript: what was said is filed once, whatever files hold it.

A drawer holds what some records said. What new records say joins the drawer of what stands before them, if it still
ends with that, and is a drawer of its own otherwise. Nothing that a drawer says is taken away, for a file that lacks it
proves nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mempalace_mcp.palace.importers import LONGEST_EXCHANGE, Document, Said, fits, rendered
from mempalace_mcp.palace.recognizing import Folding, Recognized, covers, fold, recognize
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.sources import ImportedDrawer

_LABELS = 200
"""Characters by which naming the speakers may make a drawer longer."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a drawer is to say, and the records that it then holds besides."""

    drawer: ImportedDrawer
    content: str
    said: Sequence[Said]


@dataclass(frozen=True, slots=True)
class ExchangePlan:
    """What a document asks for: new drawers, and what becomes of the `known` ones that hold some of it already.

    `discarded` are the drawers in the trash that hold some of it, None among them for those that are purged. `renamed`
    is what was filed when it was queued, with its drawer, and has a record now.
    """

    fresh: Sequence[Document]
    updates: Sequence[Update]
    moved: Sequence[ImportedDrawer]
    known: Sequence[ImportedDrawer]
    discarded: frozenset[int | None]
    recognized: Recognized
    folding: Folding
    renamed: Sequence[tuple[int, Said]]

    @property
    def is_idle(self) -> bool:
        """Is there nothing to do?"""
        found = self.recognized.homes or self.folding.settled
        return not (self.fresh or self.updates or self.moved or found or self.renamed)


def plan_exchange(
    connection: sqlite3.Connection, document: Document, path: str, is_gone: Callable[[str], bool]
) -> ExchangePlan:
    """What is to be done about a document from the file at `path`."""
    keys = [said.key for said in document.said]
    utterances = sources.utterances(connection, [*keys, *filter(None, (said.before for said in document.said))])
    homes: dict[int, int | None] = {key: utterances[key].drawer for key in keys if key in utterances}
    queued = [said for said in document.said if said.key not in homes and said.before in utterances]
    homes |= {said.key: utterances[said.before].drawer for said in queued if said.before is not None}
    recognized = recognize(connection, document, homes, path)
    homes |= recognized.homes
    drawers = sources.imported_drawers(connection, {row for row in homes.values() if row is not None})
    live = {row: drawer for row, drawer in drawers.items() if drawer.live}
    layout = _Layout(document, homes, live)
    changed = [said for said in document.said if said.key in utterances and utterances[said.key].digest != said.digest]
    fresh, updates = layout.arrange(changed)
    contents = {row: drawer.content for row, drawer in live.items()}
    contents |= {update.drawer.row: update.content for update in updates}
    return ExchangePlan(
        fresh=[_part(document, said) for said in fresh],
        updates=updates,
        moved=[each for each in live.values() if _has_moved(each, path, is_gone)],
        known=list(live.values()),
        discarded=frozenset(homes[key] for key in homes if homes[key] not in live),
        recognized=recognized,
        folding=fold(recognized, document, contents),
        renamed=[(home, said) for said in queued if (home := homes[said.key]) is not None],
    )


@dataclass(slots=True)
class _Layout:
    """What a document says, and which drawers say some of it already."""

    document: Document
    homes: dict[int, int | None]
    live: dict[int, ImportedDrawer]

    def arrange(self, changed: Sequence[Said]) -> tuple[list[Sequence[Said]], list[Update]]:
        """What becomes drawers of its own, and what is added to drawers that are there."""
        fresh: list[Sequence[Said]] = []
        runs: dict[int, list[tuple[int, int]]] = {}
        rewritten: dict[int, list[Said]] = {}
        for start, stop in self._unknown():
            target = self._neighbour(start, stop)
            if target is None:
                fresh.append(self.document.said[start:stop])
            else:
                runs.setdefault(target, []).append((start, stop))
        for said in changed:
            home = self.homes[said.key]
            if home in self.live and home is not None:
                rewritten.setdefault(home, []).append(said)
        updates = []
        for row in sorted(runs.keys() | rewritten.keys()):
            update, left = self._grown(self.live[row], runs.get(row, []), rewritten.get(row, []))
            fresh += left
            updates += [] if update is None else [update]
        return fresh, updates

    def _unknown(self) -> list[tuple[int, int]]:
        """Where no drawer is known to say it: half-open ranges."""
        ranges: list[tuple[int, int]] = []
        for position, said in enumerate(self.document.said):
            if said.key in self.homes:
                continue
            if ranges and ranges[-1][1] == position:
                ranges[-1] = (ranges[-1][0], position + 1)
            else:
                ranges.append((position, position + 1))
        return ranges

    def _neighbour(self, start: int, stop: int) -> int | None:
        """The live drawer of what stands before, or at the beginning of what follows."""
        beside = start - 1 if start > 0 else stop
        if beside >= len(self.document.said):
            return None
        home = self.homes[self.document.said[beside].key]
        return home if home in self.live else None

    def _grown(
        self, drawer: ImportedDrawer, runs: list[tuple[int, int]], rewritten: list[Said]
    ) -> tuple[Update | None, list[Sequence[Said]]]:
        """The drawer with what is new to it, and what is left for others. What somebody edited stays as it is."""
        said = self.document.said
        new = [each for start, stop in runs for each in said[start:stop]]
        keys = {each.key for each in new}
        whole = [each for each in said if each.key in keys or self.homes.get(each.key) == drawer.row]
        content = rendered(whole)
        if not drawer.edited and _fits(content) and covers(content, drawer.content):
            return Update(drawer, content, [*new, *rewritten]), []
        left: list[Sequence[Said]] = []
        taken: list[Said] = []
        content = drawer.content
        for start, stop in runs:
            before = said[start - 1] if start > 0 else None
            longer = f"{content}\n\n{rendered(said[start:stop], after=before.speaker)}" if before else ""
            if before and not drawer.edited and content.endswith(before.text) and _fits(longer):
                content, taken = longer, [*taken, *said[start:stop]]
            else:
                left.append(said[start:stop])
        for each in rewritten:
            longer = f"{content}\n\n{rendered([each])}"
            if covers(content, each.text):
                continue  # it has become shorter, and what it said stays
            if not drawer.edited and _fits(longer):
                content, taken = longer, [*taken, each]
            else:
                left.append([each])
        return (Update(drawer, content, taken) if taken else None), left


def _fits(content: str) -> bool:
    return fits(content, LONGEST_EXCHANGE + _LABELS)


def _part(document: Document, said: Sequence[Said]) -> Document:
    if tuple(said) == document.said:
        return document
    return replace(document, content=rendered(said), said=tuple(said))


def _has_moved(drawer: ImportedDrawer, path: str, is_gone: Callable[[str], bool]) -> bool:
    """Is the drawer's file gone, and does it name it still?"""
    return drawer.path != path and drawer.source_file == drawer.path and is_gone(drawer.path)
