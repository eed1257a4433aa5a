"""Filing what files say: a second run adds nothing, a changed or moved file updates, what was deleted stays so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from mempalace_mcp.core import text
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import DrawerChanges, Filed, Metadata, NewDrawer, Place, Priority
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.importers import (
    OUTSIDE,
    Document,
    FoundFile,
    Problem,
    SkippedFile,
    discover,
    is_within,
    read_real,
    real_path,
    wing_of_real,
)
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.sources import IMPORT_FIELD, ImportedPart, imported_parts, same_parts
from mempalace_mcp.storage.transaction import Transaction

BATCH = 16
"""Parts of a file stored at once: other writers wait for no more than that."""
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What became of one file, or of a part of a large one: drawers by what was done, and what could not be read."""

    path: str
    filed: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    in_trash: int = 0
    characters: int = 0
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one batch of documents asks for."""

    new: Sequence[Document]
    changed: Sequence[tuple[ImportedPart, Document]]
    moved: Sequence[tuple[str, Document]]
    unchanged: int
    in_trash: int


class Importing:
    """Reads files and keeps the palace in step with them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def import_paths(
        self,
        paths: Sequence[Path],
        *,
        wing: str | None = None,
        dry_run: bool = False,
        within: Sequence[Path] | None = None,
    ) -> Iterator[ImportStep]:
        """File what the paths hold, step by step; each step is stored before it is yielded, so stopping loses nothing.

        Imported text is embedded after what agents say. Parts of a file that are gone from it go into the trash. The
        drawers of a file that was moved or renamed stay where they are and name its new path. With `within` nothing
        outside these folders is read, whatever links lead there.
        """
        given = arguments.present(wing)
        chosen = text.read_name(given, "wing").shown if given else None
        if within is not None:
            _verify_within(paths, within)
        for found in discover(paths, within):
            if isinstance(found, SkippedFile):
                yield ImportStep(found.path, problems=(found,))
            else:
                yield from self._import_file(found, chosen or wing_of_real(found.path, found.root), dry_run)

    def _import_file(self, file: FoundFile, wing: str, dry_run: bool) -> Iterator[ImportStep]:
        path = str(file.path)
        with self._stores.reader.read() as connection:
            before = imported_parts(connection, path)
        seen: set[str] = set()
        same: set[str] = set()
        complete = True
        for entries in _batches(read_real(file.path, file.root, self._stores.calendar.zone)):
            documents = [entry for entry in entries if isinstance(entry, Document)]
            problems = [entry for entry in entries if not isinstance(entry, Document)]
            complete &= not any(isinstance(problem, SkippedFile) for problem in problems)
            seen.update(document.key for document in documents)
            plan = self._moved(_plan(documents, before))
            filed = [] if dry_run else self._store(plan, wing)
            same.update(each.drawer_id for each in filed if not each.created)
            new = len(plan.new) if dry_run else sum(each.created for each in filed)
            yield _step(path, documents, plan, new, problems)
        gone = [part for part in before.values() if part.live and part.key not in seen and part.drawer_id not in same]
        if complete and gone:
            yield ImportStep(path, removed=len(gone) if dry_run else self._remove([part.drawer_id for part in gone]))

    def _moved(self, plan: _Plan) -> _Plan:
        """The same plan, with what is new only because its file had another path told apart."""
        if not plan.new:
            return plan
        with self._stores.reader.read() as connection:
            known = [(document, same_parts(connection, document.key, document.content)) for document in plan.new]
        homes = [(document, next((id for id, path in parts if _is_gone(path)), None)) for document, parts in known]
        return replace(
            plan,
            new=[document for document, home in homes if home is None],
            moved=[(home, document) for document, home in homes if home is not None],
        )

    def _store(self, plan: _Plan, wing: str) -> list[Filed]:
        """What became of the new ones: a part may say exactly what another one says, and then it is that drawer."""
        if not plan.new and not plan.changed and not plan.moved:
            return []
        store = self._stores.drawers
        new = [(_new_drawer(each, wing), chunking.split(each.content)) for each in plan.new]
        changed = [(part.drawer_id, _changes(each), chunking.split(each.content)) for part, each in plan.changed]

        def work(tx: Transaction) -> list[Filed]:
            for drawer_id, changes, spans in changed:
                store.update(tx, drawer_id, changes, spans)
            for drawer_id, document in plan.moved:
                store.update(tx, drawer_id, DrawerChanges(source_file=document.source_file), None)
            return [store.file(tx, drawer, spans) for drawer, spans in new]

        filed = self._stores.writer.write(work, Deadline(COMMAND_SECONDS))
        self._stores.filed()
        return filed

    def _remove(self, drawer_ids: Sequence[str]) -> int:
        store = self._stores.drawers
        return len(self._stores.writer.write(lambda tx: store.delete(tx, drawer_ids), Deadline(COMMAND_SECONDS)))


def _verify_within(paths: Sequence[Path], within: Sequence[Path]) -> None:
    for position, path in enumerate(paths):
        if isinstance(real := real_path(path), Path) and not is_within(real, within):
            folders = f"are {', '.join(map(str, within))}" if within else "have not been named yet"
            raise InvalidArgument(
                f"paths[{position}] is {OUTSIDE}",
                argument=f"paths[{position}]",
                hint=f"These {folders}: whoever runs the server says so in PALACE_IMPORT_ROOTS, or imports the files "
                "with `mempalace-mcp import`.",
            )


def _batches(entries: Iterable[Document | Problem]) -> Iterator[list[Document | Problem]]:
    iterator = iter(entries)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _step(path: str, documents: Sequence[Document], plan: _Plan, new: int, problems: Sequence[Problem]) -> ImportStep:
    return ImportStep(
        path=path,
        filed=new,
        updated=len(plan.changed),
        moved=len(plan.moved),
        unchanged=plan.unchanged + len(plan.new) - new,
        in_trash=plan.in_trash,
        characters=sum(len(document.content) for document in documents),
        problems=problems,
    )


def _plan(documents: Sequence[Document], before: dict[str, ImportedPart]) -> _Plan:
    new, changed, unchanged, in_trash = [], [], 0, 0
    for document in documents:
        part = before.get(document.key)
        if part is None or (not part.live and part.digest != _digest(document)):
            new.append(document)
        elif not part.live:
            in_trash += 1
        elif part.digest == _digest(document):
            unchanged += 1
        else:
            changed.append((part, document))
    return _Plan(new, changed, (), unchanged, in_trash)


def _is_gone(path: str) -> bool:
    return not os.path.lexists(path)


def _digest(document: Document) -> str:
    return blake2b(document.content.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _metadata(document: Document) -> Metadata:
    return {**document.metadata, IMPORT_FIELD: {"key": document.key, "digest": _digest(document)}}


def _new_drawer(document: Document, wing: str) -> NewDrawer:
    return NewDrawer(
        place=Place(text.read_name(wing, "wing"), text.read_name(document.room, "room")),
        content=document.content,
        source_file=document.source_file,
        added_by="import",
        occurred_at=document.occurred_at,
        metadata=_metadata(document),
        priority=Priority.BULK,
    )


def _changes(document: Document) -> DrawerChanges:
    return DrawerChanges(content=document.content, occurred_at=document.occurred_at, metadata=_metadata(document))
