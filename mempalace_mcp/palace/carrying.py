"""Carries out, inside a transaction, what is planned for the documents of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mempalace_mcp.core.model import DrawerChanges, Span
from mempalace_mcp.palace import chunking
from mempalace_mcp.palace.exchanges import ExchangePlan
from mempalace_mcp.palace.importers import Document
from mempalace_mcp.palace.parts import PartsPlan, changes_of
from mempalace_mcp.palace.steps import new_drawer
from mempalace_mcp.storage import sources
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.sources import text_digest
from mempalace_mcp.storage.transaction import Transaction


class Carrying:
    """Writes the plans for one file into the palace."""

    def __init__(self, drawers: DrawerStore, path: str, wing: str) -> None:
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
            sources.save_utterances(tx, row, [(key, recognized.digests[key])])
        for row, said in plan.renamed:
            sources.save_utterances(tx, row, [(said.key, said.digest)])
        for drawer, into in plan.folding.folds:
            sources.fold(tx, drawer.row, into)
            self._drawers.delete(tx, [drawer.drawer_id])
        if plan.folding.settled:
            sources.identified(tx, plan.folding.settled)
        for update in plan.updates:
            changes = DrawerChanges(content=update.content)
            self._drawers.update(tx, update.drawer.drawer_id, changes, self._split(update.content))
            sources.save_imported(tx, update.drawer.drawer_id, update.drawer.path, update.content)
            sources.save_utterances(tx, update.drawer.row, [(each.key, each.digest) for each in update.said])
        for drawer in plan.moved:
            self._drawers.update(tx, drawer.drawer_id, DrawerChanges(source_file=self._path), None)
            sources.save_path(tx, drawer.row, self._path)
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            sources.save_utterances(tx, row, [(each.key, each.digest) for each in document.said])
            made[row] = made.get(row, False) or created
        return made

    def parts(self, tx: Transaction, plan: PartsPlan) -> dict[int, bool]:
        """As `exchange`, for parts of a note."""
        self._drawers.restore(tx, [drawer.drawer_id for drawer in plan.restored])
        for drawer, document in plan.changed:
            self._drawers.update(tx, drawer.drawer_id, changes_of(drawer, document), self._split(document.content))
            if not drawer.edited:
                sources.save_imported(tx, drawer.drawer_id, self._path, document.content)
        for drawer, _ in plan.moved:
            if drawer.source_file == drawer.path:
                self._drawers.update(tx, drawer.drawer_id, DrawerChanges(source_file=self._path), None)
            sources.save_path(tx, drawer.row, self._path)
            sources.forget_part(tx, drawer.row)
        for drawer, _ in plan.follow:
            sources.save_path(tx, drawer.row, self._path)
            sources.forget_part(tx, drawer.row)
        for drawer, document in (*plan.changed, *plan.moved, *plan.follow):
            sources.save_part(tx, self._path, document.key, drawer.row, text_digest(document.content))
        sources.keep_parts(tx, [drawer.row for drawer in plan.restored])
        made: dict[int, bool] = {}
        for document in plan.fresh:
            row, created = self._file(tx, document)
            sources.save_part(tx, self._path, document.key, row, text_digest(document.content))
            made[row] = made.get(row, False) or created
        return made

    def _file(self, tx: Transaction, document: Document) -> tuple[int, bool]:
        filed = self._drawers.file(tx, new_drawer(document, self._wing), self._split(document.content))
        return sources.save_imported(tx, filed.drawer_id, self._path, document.content), filed.created

    def _split(self, content: str) -> Sequence[Span]:
        spans = self._spans.get(content)
        return chunking.split(content) if spans is None else spans
