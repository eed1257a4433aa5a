"""What is to be done about the parts of a note: a part is known by its file and its name, such as a heading."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mempalace_mcp.core.model import DrawerChanges
from mempalace_mcp.palace.importers import Document
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.sources import ImportedDrawer, ImportedPart, text_digest


@dataclass(frozen=True, slots=True)
class PartsPlan:
    """What some parts of a note ask for: new drawers, changes, and what is as it was.

    `restored` are to be brought back from the trash, where they are because their file did not have them for a while;
    what they are to say now is among the `changed`. `kept` somebody has edited, and their part says something else now.
    `discarded` somebody has deleted, None for each that is purged; so are those that `follow` a file that has been
    moved.
    """

    fresh: Sequence[Document]
    changed: Sequence[tuple[ImportedDrawer, Document]]
    moved: Sequence[tuple[ImportedDrawer, Document]]
    restored: Sequence[ImportedDrawer]
    unchanged: Sequence[ImportedDrawer]
    kept: Sequence[ImportedDrawer]
    discarded: Sequence[int | None]
    follow: Sequence[tuple[ImportedDrawer, Document]]

    @property
    def held(self) -> list[ImportedDrawer]:
        """The drawers that hold the parts."""
        return [*self.unchanged, *self.kept, *self.restored, *(drawer for drawer, _ in (*self.changed, *self.moved))]

    @property
    def in_trash(self) -> list[int | None]:
        """The drawers that somebody has deleted."""
        return [*self.discarded, *(drawer.row for drawer, _ in self.follow)]

    @property
    def is_idle(self) -> bool:
        """Is there nothing to do?"""
        return not (self.fresh or self.changed or self.moved or self.restored or self.follow)


def plan_parts(
    connection: sqlite3.Connection,
    documents: Sequence[Document],
    before: Mapping[str, ImportedPart],
    is_gone: Callable[[str], bool],
) -> PartsPlan:
    """What is to be done about these documents of a file; `before` are the parts that it had."""
    known = [before[each.key] for each in documents if each.key in before]
    drawers = sources.imported_drawers(connection, {part.drawer for part in known if part.drawer is not None})
    moved: list[tuple[ImportedDrawer, Document]] = []
    follow: list[tuple[ImportedDrawer, Document]] = []
    plan = PartsPlan(
        fresh := [], changed := [], moved, restored := [], unchanged := [], kept := [], discarded := [], follow
    )
    for document in documents:
        part = before.get(document.key)
        drawer = None if part is None or part.drawer is None else drawers.get(part.drawer)
        digest = text_digest(document.content)
        comes_back = part is not None and part.gone and drawer is not None and not drawer.live
        if comes_back and drawer is not None:
            restored.append(drawer)
        if part is None or drawer is None or not (drawer.live or comes_back):
            if part is not None and part.digest == digest and not part.gone:
                discarded.append(part.drawer)
            elif (home := _home_of(connection, document, is_gone)) is not None:
                (moved if home.live else follow).append((home, document))
            elif any(map(is_gone, sources.purged_parts(connection, document.key, digest))):
                discarded.append(None)
            else:
                fresh.append(document)
        elif part.digest != digest and drawer.edited:
            kept.append(drawer)
        elif part.digest != digest or (drawer.occurred_at is None and document.occurred_at is not None):
            changed.append((drawer, document))  # or a later version of the program has found out when it was
        elif not comes_back:
            unchanged.append(drawer)
    return plan


def changes_of(drawer: ImportedDrawer, document: Document) -> DrawerChanges:
    """What of a drawer follows its file. What somebody edited stays, and so does all metadata."""
    return DrawerChanges(
        content=None if drawer.edited else document.content,
        occurred_at=document.occurred_at,
    )


def _home_of(
    connection: sqlite3.Connection, document: Document, is_gone: Callable[[str], bool]
) -> ImportedDrawer | None:
    """The drawer of the same part with the same text whose file is gone: the file has been moved. What somebody has
    deleted is known again, so that it stays so."""
    same = sources.same_parts(connection, document.key, document.content)
    row = next((row for row, path in same if path != document.source_file and is_gone(path)), None)
    return None if row is None else sources.imported_drawers(connection, [row]).get(row)
