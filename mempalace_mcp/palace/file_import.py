"""The import of one file: its documents become drawers, or change those that are there.

Each step is decided in the transaction that stores it, so that two imports at a time do nothing twice.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.model import DrawerChanges, NewDrawer, Place, Priority, Span
from mempalace_mcp.core.text import read_name
from mempalace_mcp.palace import chunking
from mempalace_mcp.palace.import_plans import DryRun, ExchangePlan, PartsPlan, changes_of, plan_exchange, plan_parts
from mempalace_mcp.palace.import_report import ImportStep
from mempalace_mcp.palace.importers import Document, FileState
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage import imports
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.imports import ImportedDrawer, text_digest
from mempalace_mcp.storage.transactions import Transaction, Work


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


@dataclass(frozen=True, slots=True)
class FileWing:
    """The wing of a file's documents: the requested one, else that of the document, else that of the file."""

    chosen: str | None
    default: str

    def of(self, document: Document) -> str:
        """The wing of a new drawer."""
        return self.chosen or document.wing or self.default

    def differs(self, wing: str) -> bool:
        """Is this another wing than the requested one?"""
        return self.chosen is not None and read_name(wing, "wing").key != read_name(self.chosen, "wing").key


class PlanWriter:
    """Writes the plans for one file into the palace."""

    def __init__(self, drawers: DrawerStore, path: str, wing: FileWing) -> None:
        self._drawers = drawers
        self._path = path
        self._wing = wing
        self._spans: dict[str, Sequence[Span]] = {}

    def prepare(self, contents: Iterable[str]) -> None:
        """Split the texts into chunks before the transaction, so that it is short."""
        self._spans = {content: chunking.split(content) for content in contents}

    def exchange(self, tx: Transaction, plan: ExchangePlan) -> dict[int, bool]:
        """Write the plan for a document of a conversation.

        Returns the rows of the drawers that hold its new text, each with whether it was created.
        """
        recognized = plan.recognized
        for key, row in recognized.homes.items():
            imports.save_messages(tx, row, [(key, recognized.digests[key])])
        for row, piece in plan.renamed:
            imports.save_messages(tx, row, [(piece.key, piece.digest)])
        for drawer, into in plan.folding.folds:
            imports.fold(tx, drawer.row, into)
            self._drawers.delete(tx, [drawer.drawer_id])
        if plan.folding.settled:
            imports.forget_unidentified(tx, plan.folding.settled)
        for update in plan.updates:
            changes = DrawerChanges(content=update.content)
            self._drawers.update(tx, update.drawer.drawer_id, changes, self._split(update.content))
            imports.save_imported(tx, update.drawer.drawer_id, update.drawer.path, update.content)
            imports.save_messages(tx, update.drawer.row, [(each.key, each.digest) for each in update.pieces])
        for drawer in plan.moved:
            self._drawers.update(tx, drawer.drawer_id, DrawerChanges(source_file=self._path), None)
            imports.save_path(tx, drawer.row, self._path)
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            imports.save_messages(tx, row, [(each.key, each.digest) for each in document.pieces])
            made[row] = made.get(row, False) or created
        return made

    def parts(self, tx: Transaction, plan: PartsPlan) -> dict[int, bool]:
        """Write the plan for parts of a note; as `exchange`."""
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
            imports.save_part(tx, self._path, document.key, drawer.row, text_digest(document.said))
        imports.keep_parts(tx, [drawer.row for drawer in plan.restored])
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            imports.save_part(tx, self._path, document.key, row, text_digest(document.said))
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
    """The import of one file.

    With a `trial`, a dry run, nothing is written. The `state` of the file is saved with its last documents, unless
    there was a problem. `before` is the report of the part that is not read again.
    """

    stores: Stores
    path: str
    wing: FileWing
    trial: DryRun | None
    before: ImportStep
    state: FileState = field(default_factory=lambda: FileState(""))
    holders: set[int] = field(default_factory=set)
    """The drawers of the documents so far, in the trash or not; each is counted once."""
    known: set[int] = field(default_factory=set)
    """Those of them that existed before the import."""
    discarded: set[int] = field(default_factory=set)
    """Those of them that are in the trash."""
    elsewhere: Counter[str] = field(default_factory=Counter)
    parts: set[str] = field(default_factory=set)
    """The parts of a note in the file."""
    is_kept: bool = False
    """Is there a drawer that a user edited and the file would change?"""
    _gone: dict[str, bool] = field(default_factory=dict)

    def file(self, documents: Sequence[Document], *, is_last: bool) -> ImportStep:
        """File documents, all of conversations or all of notes. `is_last`: the file was read to its end without a
        problem."""
        is_conversation = bool(documents[0].pieces)
        step = (self._file_exchanges if is_conversation else self._file_parts)(documents, is_last)
        characters, masked = sum(len(each.content) for each in documents), sum(each.secrets for each in documents)
        return replace(step, characters=characters, masked=masked)

    def remember(self) -> None:
        """Save the state of the file when its last documents are not filed."""
        if self.trial is None:
            self._write(lambda tx: self._remember(tx, True, (), ()))

    def rest(self) -> ImportStep:
        """The report of the part of the file that was not read again."""
        return ImportStep(
            self.path,
            unchanged=max(0, self.before.unchanged - len(self.known)),
            in_trash=max(0, self.before.in_trash - len(self.discarded)),
            elsewhere=Counter(self.before.elsewhere) - self.elsewhere,
        )

    def remove_gone(self) -> Iterator[ImportStep]:
        """Discard the drawers whose parts are gone from the file, except edited ones."""
        with self.stores.reader.read() as connection:
            before = imports.parts_of(connection, self.path).values()
            rows = {each.drawer for each in before if each.drawer is not None and each.part not in self.parts}
            gone = imports.imported_drawers(connection, rows - self.holders).values()
        yield from discard(self.stores, self.path, [each for each in gone if each.live], self.trial)

    def _file_exchanges(self, documents: Sequence[Document], is_last: bool) -> ImportStep:
        wanted = documents if self.trial is None else self.trial.without_known(documents)
        with self.stores.reader.read() as connection:
            plans = [plan_exchange(connection, each, self.path, self._is_gone) for each in wanted]
        made: dict[int, bool] = {}
        if self.trial is not None:
            self.trial.remember(wanted)
        elif is_last or not all(plan.is_idle for plan in plans):
            fresh = (each.content for plan in plans for each in plan.fresh)
            plan_writer = self._plan_writer(chain(fresh, (each.content for plan in plans for each in plan.updates)))

            def work(tx: Transaction) -> tuple[list[ExchangePlan], dict[int, bool]]:
                decided: list[ExchangePlan] = []
                rows: dict[int, bool] = {}
                for each in wanted:
                    plan = plan_exchange(tx.connection, each, self.path, self._is_gone)
                    for row, created in plan_writer.exchange(tx, plan).items():
                        rows[row] = rows.get(row, False) or created
                    decided.append(plan)
                self._remember(tx, is_last, rows, chain.from_iterable(map(_held_by, decided)))
                return decided, rows

            plans, made = self._write(work)
        return self._step_of(plans, made, repeated=len(documents) - len(wanted))

    def _step_of(self, plans: Sequence[ExchangePlan], made: Mapping[int, bool], repeated: int) -> ImportStep:
        """The report of some documents of a conversation; a dry run has seen `repeated` of them before."""
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
            self.known |= held
            self.discarded |= {row for row in plan.discarded if row is not None}
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
            plan_writer = self._plan_writer(
                each.content for each in (*plan.fresh, *(document for _, document in plan.changed))
            )

            def work(tx: Transaction) -> tuple[PartsPlan, dict[int, bool]]:
                decided = self._plan_parts(tx.connection, documents)
                rows = plan_writer.parts(tx, decided)
                held = (each.row for each in decided.held)
                self._remember(tx, is_last, rows, chain(held, filter(None, decided.in_trash)))
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

    def _remember(self, tx: Transaction, is_last: bool, made: Iterable[int], held: Iterable[int]) -> None:
        """With the last documents, save the state of the file and the number of its drawers: those of the part that was
        not read again, and those of the part that was."""
        if is_last:
            there = self.known | self.discarded | set(held)
            before = max(0, self.before.unchanged + self.before.in_trash - len(there))
            state = replace(self.state, drawers=imports.drawers_of_file(tx.connection, self.path))
            imports.save_file(tx, self.path, str(state), before + len(self.holders.union(made, there)))

    def _note(self, wings: Counter[str], drawers: Iterable[ImportedDrawer]) -> None:
        """Count the drawers in another wing than the requested one."""
        found = [each.wing for each in drawers if each.row not in self.holders and self.wing.differs(each.wing)]
        wings.update(found)
        self.elsewhere.update(found)

    def _plan_writer(self, contents: Iterable[str]) -> PlanWriter:
        plan_writer = PlanWriter(self.stores.drawers, self.path, self.wing)
        plan_writer.prepare(contents)
        return plan_writer

    def _write(self, work: Work[T]) -> T:
        result = self.stores.writer.write(work, Deadline(COMMAND_SECONDS))
        self.stores.filed()
        return result

    def _is_gone(self, path: str) -> bool:
        if path not in self._gone:
            self._gone[path] = not os.path.lexists(path)
        return self._gone[path]


def _held_by(plan: ExchangePlan) -> set[int]:
    """The drawers that hold some of a document, in the trash or not."""
    return {each.row for each in plan.known} | {row for row in plan.discarded if row is not None}


def discard(stores: Stores, path: str, drawers: Sequence[ImportedDrawer], trial: DryRun | None) -> Iterator[ImportStep]:
    """Move the drawers of a note, or of some of its parts, to the trash, and save why. Edited ones stay."""
    rows = [each for each in drawers if not each.edited]
    removed = len(rows)

    def work(tx: Transaction) -> int:
        imports.mark_gone(tx, [each.row for each in rows])
        return len(stores.drawers.delete(tx, [each.drawer_id for each in rows]))

    if rows and trial is None:
        removed = stores.writer.write(work, Deadline(COMMAND_SECONDS))
    if drawers:
        yield ImportStep(path, removed=removed, kept=len(drawers) - len(rows))
