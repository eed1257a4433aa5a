"""Imports: the drawers of files are added, changed and discarded as the files change.

A second run changes nothing. A changed or moved file updates its drawers. Drawers that somebody deleted stay deleted.
The text of a transcript stays when its file is gone. Parts that are gone from a note are moved to the trash, and come
back with the part.

Each step is decided in the transaction that stores it, so that two imports at a time do nothing twice.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import DrawerChanges, NewDrawer, Place, Priority, Span
from mempalace_mcp.core.text import read_name
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.import_plans import DryRun, ExchangePlan, PartsPlan, changes_of, plan_exchange, plan_parts
from mempalace_mcp.palace.importers import (
    DATE_REASONS,
    OUTSIDE,
    Document,
    FoundFile,
    Problem,
    SkippedFile,
    SkippedLines,
    discover,
    is_within,
    read_real,
    real_path,
    state_of,
    wing_of_real,
)
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage import imports
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.imports import ImportedDrawer, ImportedFile, text_digest
from mempalace_mcp.storage.transactions import Transaction, Work

COUNTS = (
    "filed",
    "updated",
    "moved",
    "restored",
    "unchanged",
    "kept",
    "folded",
    "removed",
    "missing",
    "in_trash",
    "characters",
)
"""The counts of a step, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What became of one file, or of a part of a large one: drawers by what was done, and what could not be read.

    `kept` are those that somebody has edited: the file tells something else now, and the edit stays. `folded` say what
    another one says, which an earlier version filed again; they are in the trash. `missing` are
    notes whose file is not there, although nothing tells that it was deleted. `elsewhere` counts, by wing, the drawers
    that are in another wing than the one asked for.
    """

    path: str
    filed: int = 0
    updated: int = 0
    moved: int = 0
    restored: int = 0
    unchanged: int = 0
    kept: int = 0
    folded: int = 0
    removed: int = 0
    missing: int = 0
    in_trash: int = 0
    characters: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


def new_drawer(document: Document, wing: str) -> NewDrawer:
    """A document as the drawer to be."""
    return NewDrawer(
        place=Place(text.read_name(wing, "wing"), text.read_name(document.room, "room")),
        content=document.content,
        source_file=document.source_file,
        added_by="import",
        occurred_at=document.occurred_at,
        metadata=document.metadata,
        priority=Priority.BULK,
    )


PROBLEMS_SHOWN = 20
REASONS_COUNTED = 50
WINGS_SHOWN = 20


class ImportSummary:
    """Adds up the steps of one import as they come."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._elsewhere: Counter[str] = Counter()
        self._problems: list[dict[str, Any]] = []
        self._last_path = ""
        self.steps = 0

    def add(self, step: ImportStep) -> None:
        """Count one step."""
        self.steps += 1
        for name in COUNTS:
            self._counts[name] += getattr(step, name)
        self._elsewhere.update(step.elsewhere)
        read_from = step.filed + step.updated + step.moved + step.restored + step.unchanged + step.kept + step.in_trash
        if read_from and step.path != self._last_path:
            self._counts["files"] += 1
            self._last_path = step.path
        for problem in step.problems:
            self._note(problem)

    @property
    def filed(self) -> int:
        """New drawers so far."""
        return self._counts["filed"]

    def as_dict(self, *, complete: bool) -> dict[str, Any]:
        """The counts, the reasons with theirs, and the first problems; `complete` is False for an import cut short."""
        return {
            **{field: self._counts[field] for field in ("files", *COUNTS)},
            "elsewhere": dict(self._elsewhere.most_common(WINGS_SHOWN)),
            "skipped": dict(self._reasons.most_common(REASONS_COUNTED)),
            "problems": list(self._problems),
            "seconds": round(time.monotonic() - self._started, 3),
            "complete": complete,
        }

    def _note(self, problem: SkippedFile | SkippedLines) -> None:
        count = problem.count if isinstance(problem, SkippedLines) else 1
        reason = problem.reason
        if reason not in self._reasons and len(self._reasons) >= REASONS_COUNTED:
            reason = "other reasons"
        self._reasons[reason] += count
        if reason in DATE_REASONS and self._reasons[reason] > count:
            return  # the note was filed, and one example tells what is not understood
        if len(self._problems) < PROBLEMS_SHOWN:
            lines = list(problem.first) if isinstance(problem, SkippedLines) else None
            self._problems.append({"path": problem.path, "reason": problem.reason, "lines": lines})


@dataclass(frozen=True, slots=True)
class FileWing:
    """The wing of what a file holds: the one that was asked for, else each document's own, else that of the file."""

    chosen: str | None
    default: str

    def of(self, document: Document) -> str:
        """The wing of a new drawer."""
        return self.chosen or document.wing or self.default

    def differs(self, wing: str) -> bool:
        """Is this another wing than the one that was asked for?"""
        return self.chosen is not None and read_name(wing, "wing").key != read_name(self.chosen, "wing").key


class Carrying:
    """Writes the plans for one file into the palace."""

    def __init__(self, drawers: DrawerStore, path: str, wing: FileWing) -> None:
        self._drawers = drawers
        self._path = path
        self._wing = wing
        self._spans: dict[str, Sequence[Span]] = {}

    def prepare(self, contents: Iterable[str]) -> None:
        """Cut texts that are likely to be written, so that no transaction waits for it."""
        self._spans = {content: chunking.split(content) for content in contents}

    def exchange(self, tx: Transaction, plan: ExchangePlan) -> dict[int, bool]:
        """The rows of the drawers that hold new documents, each with whether it was made for them."""
        recognized = plan.recognized
        for key, row in recognized.homes.items():
            imports.save_utterances(tx, row, [(key, recognized.digests[key])])
        for row, piece in plan.renamed:
            imports.save_utterances(tx, row, [(piece.key, piece.digest)])
        for drawer, into in plan.folding.folds:
            imports.fold(tx, drawer.row, into)
            self._drawers.delete(tx, [drawer.drawer_id])
        if plan.folding.settled:
            imports.identified(tx, plan.folding.settled)
        for update in plan.updates:
            changes = DrawerChanges(content=update.content)
            self._drawers.update(tx, update.drawer.drawer_id, changes, self._split(update.content))
            imports.save_imported(tx, update.drawer.drawer_id, update.drawer.path, update.content)
            imports.save_utterances(tx, update.drawer.row, [(each.key, each.digest) for each in update.pieces])
        for drawer in plan.moved:
            self._drawers.update(tx, drawer.drawer_id, DrawerChanges(source_file=self._path), None)
            imports.save_path(tx, drawer.row, self._path)
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            imports.save_utterances(tx, row, [(each.key, each.digest) for each in document.pieces])
            made[row] = made.get(row, False) or created
        return made

    def parts(self, tx: Transaction, plan: PartsPlan) -> dict[int, bool]:
        """As `exchange`, for parts of a note."""
        self._drawers.restore(tx, [drawer.drawer_id for drawer in plan.restored])
        for drawer, document in plan.changed:
            self._drawers.update(tx, drawer.drawer_id, changes_of(drawer, document), self._split(document.content))
            if not drawer.edited:
                imports.save_imported(tx, drawer.drawer_id, self._path, document.content)
        for drawer, _ in plan.moved:
            if drawer.source_file == drawer.path:
                self._drawers.update(tx, drawer.drawer_id, DrawerChanges(source_file=self._path), None)
            imports.save_path(tx, drawer.row, self._path)
            imports.forget_part(tx, drawer.row)
        for drawer, _ in plan.follow:
            imports.save_path(tx, drawer.row, self._path)
            imports.forget_part(tx, drawer.row)
        for drawer, document in (*plan.changed, *plan.moved, *plan.follow):
            imports.save_part(tx, self._path, document.key, drawer.row, text_digest(document.content))
        imports.keep_parts(tx, [drawer.row for drawer in plan.restored])
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            imports.save_part(tx, self._path, document.key, row, text_digest(document.content))
            made[row] = made.get(row, False) or created
        return made

    def _file(self, tx: Transaction, document: Document) -> tuple[int, bool]:
        filed = self._drawers.file(tx, new_drawer(document, self._wing.of(document)), self._split(document.content))
        return imports.save_imported(tx, filed.drawer_id, self._path, document.content), filed.created

    def _split(self, content: str) -> Sequence[Span]:
        spans = self._spans.get(content)
        return chunking.split(content) if spans is None else spans


T = TypeVar("T")


@dataclass(slots=True)
class FileImport:
    """The import of one file. With a `trial` nothing is written. The `state` of the file is remembered with its last
    documents, if nothing is wrong with it."""

    stores: Stores
    path: str
    wing: FileWing
    state: str
    trial: DryRun | None
    holders: set[int] = field(default_factory=set)
    """The drawers that hold what the file says, in the trash or not; each is counted once."""
    parts: set[str] = field(default_factory=set)
    """The parts of a note that it has."""
    is_kept: bool = False
    """Has somebody edited what the file would change?"""
    _gone: dict[str, bool] = field(default_factory=dict)

    def file(self, documents: Sequence[Document], *, is_last: bool) -> ImportStep:
        """Do what these documents ask for, all of them of conversations or none; `is_last` if the file has been read to
        its end without a problem."""
        is_conversation = bool(documents[0].pieces)
        step = (self._file_exchanges if is_conversation else self._file_parts)(documents, is_last)
        return replace(step, characters=sum(len(each.content) for each in documents))

    def remove_gone(self) -> Iterator[ImportStep]:
        """Discard the parts of the note that it no longer has; what somebody has edited stays."""
        with self.stores.reader.read() as connection:
            before = imports.parts_of(connection, self.path).values()
            rows = {each.drawer for each in before if each.drawer is not None and each.part not in self.parts}
            gone = imports.imported_drawers(connection, rows - self.holders).values()
        yield from discard(self.stores, self.path, [each for each in gone if each.live], self.trial)

    def _file_exchanges(self, documents: Sequence[Document], is_last: bool) -> ImportStep:
        asked = documents if self.trial is None else self.trial.without_known(documents)
        with self.stores.reader.read() as connection:
            plans = [plan_exchange(connection, each, self.path, self._is_gone) for each in asked]
        made: dict[int, bool] = {}
        if self.trial is not None:
            self.trial.remember(asked)
        elif is_last or not all(plan.is_idle for plan in plans):
            fresh = (each.content for plan in plans for each in plan.fresh)
            carrying = self._carrying(chain(fresh, (each.content for plan in plans for each in plan.updates)))

            def work(tx: Transaction) -> tuple[list[ExchangePlan], dict[int, bool]]:
                decided: list[ExchangePlan] = []
                rows: dict[int, bool] = {}
                for each in asked:
                    plan = plan_exchange(tx.connection, each, self.path, self._is_gone)
                    for row, created in carrying.exchange(tx, plan).items():
                        rows[row] = rows.get(row, False) or created
                    decided.append(plan)
                self._remember(tx, is_last, rows, *(_held_by(plan) for plan in decided))
                return decided, rows

            plans, made = self._write(work)
        return self._told(plans, made, repeated=len(documents) - len(asked))

    def _told(self, plans: Sequence[ExchangePlan], made: Mapping[int, bool], repeated: int) -> ImportStep:
        """What became of some documents of a transcript; `repeated` of them a dry run has heard before."""
        wings: Counter[str] = Counter()
        updated = moved = unchanged = in_trash = 0
        for plan in plans:
            grown = {each.drawer.row for each in plan.updates}
            went = {each.row for each in plan.moved} - grown
            held = {each.row for each in plan.known}
            updated += len(grown)
            moved += len(went)
            unchanged += len(held - grown - went - self.holders)
            in_trash += len(plan.discarded - self.holders)
            self._note(wings, plan.known)
            self.holders |= held | {row for row in plan.discarded if row is not None}
        self.holders |= made.keys()
        return ImportStep(
            self.path,
            filed=sum(len(plan.fresh) for plan in plans) if self.trial else sum(made.values()),
            updated=updated,
            moved=moved,
            unchanged=unchanged + repeated + sum(not created for created in made.values()),
            folded=sum(len(plan.folding.folds) for plan in plans),
            in_trash=in_trash,
            elsewhere=wings,
        )

    def _file_parts(self, documents: Sequence[Document], is_last: bool) -> ImportStep:
        self.parts |= {each.key for each in documents}
        with self.stores.reader.read() as connection:
            plan = self._plan_parts(connection, documents)
        made: dict[int, bool] = {}
        is_last = is_last and not (self.is_kept or plan.kept)
        if self.trial is not None:
            self.trial.moved |= {drawer.row for drawer, _ in plan.moved}
        elif is_last or not plan.is_idle:
            carrying = self._carrying(
                each.content for each in (*plan.fresh, *(document for _, document in plan.changed))
            )

            def work(tx: Transaction) -> tuple[PartsPlan, dict[int, bool]]:
                decided = self._plan_parts(tx.connection, documents)
                rows = carrying.parts(tx, decided)
                self._remember(tx, is_last, rows, (each.row for each in decided.held), filter(None, decided.in_trash))
                return decided, rows

            plan, made = self._write(work)
        self.is_kept = self.is_kept or bool(plan.kept)
        wings: Counter[str] = Counter()
        self._note(wings, plan.held)
        self.holders |= made.keys() | {each.row for each in plan.held} | set(filter(None, plan.in_trash))
        filed = sum(made.values()) if self.trial is None else len(plan.fresh)
        return ImportStep(
            self.path,
            filed=filed,
            updated=len(plan.changed),
            moved=len(plan.moved),
            restored=len(plan.restored),
            unchanged=len(plan.unchanged) + sum(not created for created in made.values()),
            kept=len(plan.kept),
            in_trash=len(plan.in_trash),
            elsewhere=wings,
        )

    def _plan_parts(self, connection: Connection, documents: Sequence[Document]) -> PartsPlan:
        return plan_parts(connection, documents, imports.parts_of(connection, self.path), self._is_gone)

    def _remember(self, tx: Transaction, is_last: bool, *rows: Iterable[int]) -> None:
        """With the last documents, remember the file and how many drawers hold it: these and those before them."""
        if is_last:
            imports.save_file(tx, self.path, self.state, len(self.holders.union(*rows)))

    def _note(self, wings: Counter[str], drawers: Iterable[ImportedDrawer]) -> None:
        """Count those that are in another wing than the one asked for."""
        wings.update(each.wing for each in drawers if each.row not in self.holders and self.wing.differs(each.wing))

    def _carrying(self, contents: Iterable[str]) -> Carrying:
        carrying = Carrying(self.stores.drawers, self.path, self.wing)
        carrying.prepare(contents)
        return carrying

    def _write(self, work: Work[T]) -> T:
        result = self.stores.writer.write(work, Deadline(COMMAND_SECONDS))
        self.stores.filed()
        return result

    def _is_gone(self, path: str) -> bool:
        if path not in self._gone:
            self._gone[path] = not os.path.lexists(path)
        return self._gone[path]


def _held_by(plan: ExchangePlan) -> set[int]:
    """The drawers that hold what a document says, in the trash or not."""
    return {each.row for each in plan.known} | {row for row in plan.discarded if row is not None}


def discard(stores: Stores, path: str, drawers: Sequence[ImportedDrawer], trial: DryRun | None) -> Iterator[ImportStep]:
    """Move what went out of a note, or with it, into the trash, and remember why. What somebody has edited stays."""
    rows = [each for each in drawers if not each.edited]
    removed = len(rows)

    def work(tx: Transaction) -> int:
        imports.mark_gone(tx, [each.row for each in rows])
        return len(stores.drawers.delete(tx, [each.drawer_id for each in rows]))

    if rows and trial is None:
        removed = stores.writer.write(work, Deadline(COMMAND_SECONDS))
    if drawers:
        yield ImportStep(path, removed=removed, kept=len(drawers) - len(rows))


BATCH = 16
"""Parts of a file stored at once: other writers wait for no more than that."""


class ImportOperations:
    """Reads files and keeps the palace in step with them."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def import_paths(
        self,
        paths: Sequence[Path],
        *,
        wing: str | None = None,
        dry_run: bool = False,
        include_tools: bool = False,
        within: Sequence[Path] | None = None,
    ) -> Iterator[ImportStep]:
        """File what the paths hold, step by step; each step is stored before it is yielded, so stopping loses nothing.

        Imported text is embedded after what agents say. What was said in transcripts is filed once, whatever files hold
        it, and never removed. Parts that are gone from a note, and notes that are gone from a folder, go into the
        trash. The drawers of a file that was moved or renamed stay where they are and name its new path. With `within`
        nothing outside these folders is read, whatever links lead there. With `include_tools`, what tools returned in
        conversations is filed too.
        """
        given = arguments.present(wing)
        chosen = text.read_name(given, "wing").shown if given else None
        if within is not None:
            _verify_within(paths, within)
        with DryRun() if dry_run else nullcontext() as trial:
            for found in discover(paths, within):
                if isinstance(found, SkippedFile):
                    yield ImportStep(found.path, problems=(found,))
                else:
                    yield from self._import_file(found, chosen, trial, include_tools)
            for folder in paths:
                yield from self._remove_vanished(folder, trial)

    def _import_file(
        self, file: FoundFile, chosen: str | None, trial: DryRun | None, include_tools: bool
    ) -> Iterator[ImportStep]:
        path = str(file.path)
        state = state_of(file.path, include_tools)
        with self._stores.reader.read() as connection:
            known = imports.find_file(connection, path)
            if known is not None and state is not None and known.state == state:
                unchanged = _unchanged(connection, path, known, chosen)
            else:
                unchanged = None
        if unchanged is not None:
            yield unchanged
            return
        wing = FileWing(chosen, chosen or wing_of_real(file.path, file.root))
        importing = FileImport(self._stores, path, wing, state or "", trial)
        is_clean, is_complete = state is not None, True
        zone = self._stores.calendar.zone
        for entries, is_last in _batches(read_real(file.path, file.root, zone, include_tools=include_tools)):
            documents = [entry for entry in entries if isinstance(entry, Document)]
            problems = [entry for entry in entries if not isinstance(entry, Document)]
            is_clean = is_clean and not problems
            is_complete = is_complete and not any(isinstance(problem, SkippedFile) for problem in problems)
            if documents:
                yield importing.file(documents, is_last=is_last and is_clean)
            if problems:
                yield ImportStep(path, problems=problems)
        if is_complete and importing.parts:
            yield from importing.remove_gone()

    def _remove_vanished(self, given: Path, trial: DryRun | None) -> Iterator[ImportStep]:
        """Discard the notes that are gone from a folder. One that may only be out of reach stays, and is told of."""
        folder = real_path(given)
        if isinstance(folder, SkippedFile) or not folder.is_dir():
            return
        with self._stores.reader.read() as connection:
            notes = imports.notes_below(connection, f"{folder}{'' if folder == Path(folder.anchor) else os.sep}")
        for path, rows in notes.items():
            if os.path.lexists(path):
                continue
            with self._stores.reader.read() as connection:
                drawers = list(imports.imported_drawers(connection, rows).values())
            if trial is not None:
                drawers = [each for each in drawers if each.row not in trial.moved]
            if not _is_deleted(Path(path), folder):
                yield ImportStep(path, missing=len(drawers))
            else:
                yield from discard(self._stores, path, drawers, trial)


def _unchanged(connection: Connection, path: str, known: ImportedFile, chosen: str | None) -> ImportStep:
    """What there is to tell of a file that is as it was when it was read last."""
    discarded = min(known.drawers, imports.discarded_of_file(connection, path))
    places = imports.places_of_file(connection, path) if chosen else {}
    key = text.read_name(chosen, "wing").key if chosen else None
    elsewhere = {wing: count for wing, count in places.items() if text.read_name(wing, "wing").key != key}
    return ImportStep(path, unchanged=known.drawers - discarded, in_trash=discarded, elsewhere=elsewhere)


def _is_deleted(path: Path, root: Path) -> bool:
    """Was the file deleted, as far as the folder around it tells? An empty one may be a disk that is not mounted."""
    inner, folder = path, path.parent
    while not os.path.lexists(folder) and folder != root:
        inner, folder = folder, folder.parent
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError:
        return False
    return bool(names) and inner.name not in names


def _verify_within(paths: Sequence[Path], within: Sequence[Path]) -> None:
    for position, path in enumerate(paths):
        if isinstance(real := real_path(path), Path) and not is_within(real, within):
            folders = f"are {', '.join(map(str, within))}" if within else "have not been named yet"
            raise InvalidArgument(
                f"paths[{position}] is {OUTSIDE}",
                argument=f"paths[{position}]",
                hint=f"These {folders}: whoever runs the server says so in PALACE_IMPORT_ROOTS, or imports the files "
                "with `mempalace-mcp import PATH...`.",
            )


def _batches(entries: Iterable[Document | Problem]) -> Iterator[tuple[list[Document | Problem], bool]]:
    """A few entries at a time, all of them of conversations or none, and whether they are the last."""
    batch: list[Document | Problem] = []
    is_conversation: bool | None = None
    for entry in entries:
        is_other = False
        if isinstance(entry, Document):
            is_other = is_conversation is not None and is_conversation != bool(entry.pieces)
            is_conversation = bool(entry.pieces)
        if batch and (is_other or len(batch) == BATCH):
            yield batch, False
            batch = []
        batch.append(entry)
    if batch:
        yield batch, True
