"""One file on its way into the palace: its documents are planned against what is known of it, and filed.

Everything is decided in the transaction that stores it, so that two imports at a time do nothing twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.text import read_name
from mempalace_mcp.palace.carrying import Carrying
from mempalace_mcp.palace.exchanges import ExchangePlan, plan_exchange
from mempalace_mcp.palace.importers import Document
from mempalace_mcp.palace.parts import PartsPlan, plan_parts
from mempalace_mcp.palace.steps import ImportStep
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.trial import Trial
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.sources import ImportedDrawer
from mempalace_mcp.storage.transaction import Transaction, Work

T = TypeVar("T")


@dataclass(slots=True)
class FileImport:
    """The import of one file. With a `trial` nothing is written. `is_chosen` says that its wing was asked for by name;
    the `state` of the file is remembered with its last documents, if nothing is wrong with it."""

    stores: Stores
    path: str
    wing: str
    is_chosen: bool
    state: str
    trial: Trial | None
    holders: set[int] = field(default_factory=set)
    """The drawers that hold what the file says, in the trash or not; each is counted once."""
    parts: set[str] = field(default_factory=set)
    """The parts of a note that it has."""
    is_kept: bool = False
    """Has somebody edited what the file would change?"""
    _gone: dict[str, bool] = field(default_factory=dict)

    def file(self, documents: Sequence[Document], *, is_last: bool) -> ImportStep:
        """Do what these documents ask for; `is_last` if the file has been read to its end without a problem."""
        exchanges = [each for each in documents if each.said]
        parts = [each for each in documents if not each.said]
        told = self._file_parts(parts, is_last) if parts else self._file_exchanges(exchanges, is_last)
        return replace(told, characters=sum(len(each.content) for each in documents))

    def remove_gone(self) -> Iterator[ImportStep]:
        """Discard the parts of the note that it no longer has; what somebody has edited stays."""
        with self.stores.reader.read() as connection:
            before = sources.parts_of(connection, self.path).values()
            rows = {each.drawer for each in before if each.drawer is not None and each.part not in self.parts}
            gone = sources.imported_drawers(connection, rows - self.holders).values()
        yield from discard(self.stores, self.path, [each for each in gone if each.live], self.trial)

    def _file_exchanges(self, documents: Sequence[Document], is_last: bool) -> ImportStep:
        asked = documents if self.trial is None else self.trial.unheard(documents)
        with self.stores.reader.read() as connection:
            plans = [plan_exchange(connection, each, self.path, self._is_gone) for each in asked]
        made: dict[int, bool] = {}
        if self.trial is not None:
            self.trial.hear(asked)
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

    def _plan_parts(self, connection: sqlite3.Connection, documents: Sequence[Document]) -> PartsPlan:
        return plan_parts(connection, documents, sources.parts_of(connection, self.path), self._is_gone)

    def _remember(self, tx: Transaction, is_last: bool, *rows: Iterable[int]) -> None:
        """With the last documents, remember the file and how many drawers hold it: these and those before them."""
        if is_last:
            sources.save_file(tx, self.path, self.state, len(self.holders.union(*rows)))

    def _note(self, wings: Counter[str], drawers: Iterable[ImportedDrawer]) -> None:
        """Count those that are in another wing than the one asked for."""
        if self.is_chosen:
            wings.update(
                each.wing
                for each in drawers
                if each.row not in self.holders and read_name(each.wing, "wing").key != read_name(self.wing, "wing").key
            )

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


def discard(stores: Stores, path: str, drawers: Sequence[ImportedDrawer], trial: Trial | None) -> Iterator[ImportStep]:
    """Move what went out of a note, or with it, into the trash, and remember why. What somebody has edited stays."""
    rows = [each for each in drawers if not each.edited]
    removed = len(rows)

    def work(tx: Transaction) -> int:
        sources.mark_gone(tx, [each.row for each in rows])
        return len(stores.drawers.delete(tx, [each.drawer_id for each in rows]))

    if rows and trial is None:
        removed = stores.writer.write(work, Deadline(COMMAND_SECONDS))
    if drawers:
        yield ImportStep(path, removed=removed, kept=len(drawers) - len(rows))
