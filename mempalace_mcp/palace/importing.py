"""Filing what files say: a second run adds nothing, a changed file updates, what was deleted stays deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from mempalace_mcp.core import text
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.model import DrawerChanges, Metadata, NewDrawer, Place, Priority
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.importers import Document, FoundFile, Problem, SkippedFile, default_wing, discover, read
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.sources import IMPORT_FIELD, ImportedPart, imported_parts
from mempalace_mcp.storage.transaction import Transaction

BATCH = 64
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What became of one file, or of a part of a large one: drawers by what was done, and what could not be read."""

    path: str
    filed: int = 0
    updated: int = 0
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
    unchanged: int
    in_trash: int


class Importing:
    """Reads files and keeps the palace in step with them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def import_paths(
        self, paths: Sequence[Path], *, wing: str | None = None, dry_run: bool = False
    ) -> Iterator[ImportStep]:
        """File what the paths hold, step by step; each step is stored before it is yielded, so stopping loses nothing.

        Imported text is embedded after what agents say. Parts of a file that are gone from it go into the trash.
        """
        given = arguments.present(wing)
        chosen = text.read_name(given, "wing").shown if given else None
        for found in discover(paths):
            if isinstance(found, SkippedFile):
                yield ImportStep(found.path, problems=(found,))
            else:
                yield from self._import_file(found, chosen or default_wing(found), dry_run)

    def _import_file(self, file: FoundFile, wing: str, dry_run: bool) -> Iterator[ImportStep]:
        path = str(file.path)
        with self._stores.reader.read() as connection:
            before = imported_parts(connection, path)
        seen: set[str] = set()
        complete = True
        for entries in _batches(read(file)):
            documents = [entry for entry in entries if isinstance(entry, Document)]
            problems = [entry for entry in entries if not isinstance(entry, Document)]
            complete &= not any(isinstance(problem, SkippedFile) for problem in problems)
            seen.update(document.key for document in documents)
            yield self._import_batch(path, documents, problems, before, wing, dry_run)
        gone = [part.drawer_id for key, part in before.items() if part.live and key not in seen] if complete else []
        if gone:
            yield ImportStep(path, removed=len(gone) if dry_run else self._remove(gone))

    def _import_batch(
        self,
        path: str,
        documents: Sequence[Document],
        problems: Sequence[Problem],
        before: dict[str, ImportedPart],
        wing: str,
        dry_run: bool,
    ) -> ImportStep:
        plan = _plan(documents, before)
        filed = len(plan.new)
        if not dry_run and (plan.new or plan.changed):
            filed = self._store(plan, wing)
        return ImportStep(
            path=path,
            filed=filed,
            updated=len(plan.changed),
            unchanged=plan.unchanged + len(plan.new) - filed,
            in_trash=plan.in_trash,
            characters=sum(len(document.content) for document in documents),
            problems=problems,
        )

    def _store(self, plan: _Plan, wing: str) -> int:
        """Returns how many drawers are new: a part may say exactly what another one says."""
        store = self._stores.drawers
        new = [(_new_drawer(each, wing), chunking.split(each.content)) for each in plan.new]
        changed = [(part.drawer_id, _changes(each), chunking.split(each.content)) for part, each in plan.changed]

        def work(tx: Transaction) -> int:
            for drawer_id, changes, spans in changed:
                store.update(tx, drawer_id, changes, spans)
            return sum(store.file(tx, drawer, spans).created for drawer, spans in new)

        created = self._stores.writer.write(work, Deadline(COMMAND_SECONDS))
        self._stores.filed()
        return created

    def _remove(self, drawer_ids: Sequence[str]) -> int:
        store = self._stores.drawers
        return len(self._stores.writer.write(lambda tx: store.delete(tx, drawer_ids), Deadline(COMMAND_SECONDS)))


def _batches(entries: Iterable[Document | Problem]) -> Iterator[list[Document | Problem]]:
    iterator = iter(entries)
    while batch := list(islice(iterator, BATCH)):
        yield batch


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
    return _Plan(new, changed, unchanged, in_trash)


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
