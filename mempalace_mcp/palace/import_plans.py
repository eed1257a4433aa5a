"""Plans of imports: which drawers of a source stay, change, are added or discarded. Nothing is written here.

A part of a note is known by its file and its name, such as a heading.

An exchange of a transcript is filed once, whatever files hold it. A drawer holds the text of some records. Text of new
records is appended to the drawer that ends with the record before them; otherwise it becomes a drawer of its own. No
text is ever removed from a drawer: a file without it proves nothing.

Drawers of earlier versions have no keys of records. They are recognized by the time of the exchange and their text. If
several have the same text, it stays in one of them; the others are discarded, except those that a fact cites or that
somebody has edited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from mempalace_mcp.core.disk_set import DiskSet
from mempalace_mcp.core.model import DrawerChanges
from mempalace_mcp.palace.importers import LONGEST_EXCHANGE, Document, Piece, fits, render
from mempalace_mcp.storage import imports
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.imports import ImportedDrawer, ImportedPart, text_digest


@dataclass(frozen=True, slots=True)
class PartsPlan:
    """The drawers of some parts of a note, by what is to be done.

    `restored` are in the trash because their part was gone from the file, and is there again; their new text is among
    the `changed`. `kept` were edited by a user, and their part has changed in the file. `discarded` were deleted by a
    user; None stands for a purged one. `follow` were deleted too, and their file has moved.
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
        """The live drawers of the parts."""
        return [*self.unchanged, *self.kept, *self.restored, *(drawer for drawer, _ in (*self.changed, *self.moved))]

    @property
    def in_trash(self) -> list[int | None]:
        """The drawers that a user deleted."""
        return [*self.discarded, *(drawer.row for drawer, _ in self.follow)]

    @property
    def is_idle(self) -> bool:
        """Is there nothing to do?"""
        return not (self.fresh or self.changed or self.moved or self.restored or self.follow)


def plan_parts(
    connection: Connection,
    documents: Sequence[Document],
    before: Mapping[str, ImportedPart],
    is_gone: Callable[[str], bool],
) -> PartsPlan:
    """The plan for these documents of a note; `before` are the parts that the file had."""
    known = [before[each.key] for each in documents if each.key in before]
    drawers = imports.imported_drawers(connection, {part.drawer for part in known if part.drawer is not None})
    moved: list[tuple[ImportedDrawer, Document]] = []
    follow: list[tuple[ImportedDrawer, Document]] = []
    plan = PartsPlan(
        fresh := [], changed := [], moved, restored := [], unchanged := [], kept := [], discarded := [], follow
    )
    for document in documents:
        part = before.get(document.key)
        drawer = None if part is None or part.drawer is None else drawers.get(part.drawer)
        digest = text_digest(document.said)
        comes_back = part is not None and part.gone and drawer is not None and not drawer.live
        if comes_back and drawer is not None:
            restored.append(drawer)
        if part is None or drawer is None or not (drawer.live or comes_back):
            if part is not None and part.digest == digest and not part.gone:
                discarded.append(part.drawer)
            elif (home := _home_of(connection, document, is_gone)) is not None:
                (moved if home.live else follow).append((home, document))
            elif any(map(is_gone, imports.purged_parts(connection, document.key, digest))):
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
    """The changes of a drawer whose part has changed. Text that a user edited stays, and so does all metadata."""
    return DrawerChanges(
        content=None if drawer.edited else document.content,
        occurred_at=document.occurred_at,
    )


def _home_of(connection: Connection, document: Document, is_gone: Callable[[str], bool]) -> ImportedDrawer | None:
    """The drawer of the same part with the same text whose file is gone: the file has been moved. What a user has
    deleted is known again, so that it stays so."""
    same = (
        imports.same_parts(connection, document.key, text) for text in dict.fromkeys((document.content, document.said))
    )
    row = next((row for row, path in chain.from_iterable(same) if path != document.source_file and is_gone(path)), None)
    return None if row is None else imports.imported_drawers(connection, [row]).get(row)


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
    """Does the text contain all lines of the older one in their order?"""
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


def recognize(connection: Connection, document: Document, known: Mapping[int, int | None], path: str) -> Recognized:
    """Which drawers of earlier versions say what the document says; `known` are the drawers of records that are."""
    if not imports.has_unidentified(connection):
        return Recognized()
    times = {each.time for each in document.pieces} | {document.occurred_at}
    text = document.pieces[0].said if document.occurred_at is None else None
    found = imports.unidentified(connection, sorted(time for time in times if time is not None), path, text)
    texts = {row: imports.imported_text(connection, drawer) for row, drawer in found.items()}
    cited = {row for row, drawer in found.items() if len(found) > 1 and imports.is_cited(connection, drawer.drawer_id)}
    ranked = sorted(
        found.values(),
        key=lambda each: (not each.live, each.row not in cited, not each.edited, -len(each.content), each.row),
    )
    homes: dict[int, int] = {}
    for piece in document.pieces:
        home = next((each.row for each in ranked if piece.said in texts[each.row]), None)
        if piece.key not in known and home is not None:
            homes[piece.key] = home
    unknown = [piece for piece in document.pieces if piece.key not in known and piece.key not in homes]
    if unknown and document.occurred_at is not None:
        before = imports.unidentified_before(connection, document.occurred_at, path)
        earlier = {row: imports.imported_text(connection, drawer) for row, drawer in before.items()}
        for piece in unknown:
            home = next((row for row, older in earlier.items() if _says(older, piece.said)), None)
            if home is not None:
                homes[piece.key] = home
        begun = {before[row].occurred_at for row in homes.values() if row in before}
        ranked += (drawer for drawer in before.values() if drawer.occurred_at in begun)
        texts |= earlier
    digests = {piece.key: piece.digest for piece in document.pieces if piece.key in homes}
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
    """Are these words whole paragraphs of the text?"""
    paragraphs = f"\n\n{_LABELS.sub('', text)}\n\n"
    return f"\n\n{said}\n\n" in paragraphs or f"\n\n{said.strip()}\n\n" in paragraphs


_LABEL_CHARACTERS = 200
"""Characters by which naming the speakers may make a drawer longer."""


@dataclass(frozen=True, slots=True)
class Update:
    """The new text of a drawer, and the pieces that it then holds in addition."""

    drawer: ImportedDrawer
    content: str
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class ExchangePlan:
    """What is to be done for a document: new drawers, and changes of the `known` ones that hold some of it already.

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
    renamed: Sequence[tuple[int, Piece]]

    @property
    def is_idle(self) -> bool:
        """Is there nothing to do?"""
        found = self.recognized.homes or self.folding.settled
        return not (self.fresh or self.updates or self.moved or found or self.renamed)


def plan_exchange(
    connection: Connection, document: Document, path: str, is_gone: Callable[[str], bool]
) -> ExchangePlan:
    """The plan for a document of a conversation in the file at `path`."""
    keys = [piece.key for piece in document.pieces]
    filed = imports.filed_messages(connection, [*keys, *filter(None, (piece.queued_key for piece in document.pieces))])
    homes: dict[int, int | None] = {key: filed[key].drawer for key in keys if key in filed}
    queued = [piece for piece in document.pieces if piece.key not in homes and piece.queued_key in filed]
    homes |= {piece.key: filed[piece.queued_key].drawer for piece in queued if piece.queued_key is not None}
    recognized = recognize(connection, document, homes, path)
    homes |= recognized.homes
    drawers = imports.imported_drawers(connection, {row for row in homes.values() if row is not None})
    live = {row: drawer for row, drawer in drawers.items() if drawer.live}
    layout = _Layout(document, homes, live)
    changed = [piece for piece in document.pieces if piece.key in filed and filed[piece.key].digest != piece.digest]
    fresh, updates = layout.arrange(changed)
    contents = {row: drawer.content for row, drawer in live.items()}
    contents |= {update.drawer.row: update.content for update in updates}
    return ExchangePlan(
        fresh=[_part(document, pieces) for pieces in fresh],
        updates=updates,
        moved=[each for each in live.values() if _has_moved(each, path, is_gone)],
        known=list(live.values()),
        discarded=frozenset(homes[key] for key in homes if homes[key] not in live),
        recognized=recognized,
        folding=fold(recognized, document, contents),
        renamed=[(home, piece) for piece in queued if (home := homes[piece.key]) is not None],
    )


@dataclass(slots=True)
class _Layout:
    """A document, and the drawers that hold some of its pieces already."""

    document: Document
    homes: dict[int, int | None]
    live: dict[int, ImportedDrawer]

    def arrange(self, changed: Sequence[Piece]) -> tuple[list[Sequence[Piece]], list[Update]]:
        """The runs of pieces that become new drawers, and the updates of existing ones."""
        fresh: list[Sequence[Piece]] = []
        runs: dict[int, list[tuple[int, int]]] = {}
        rewritten: dict[int, list[Piece]] = {}
        for start, stop in self._unknown():
            target = self._neighbour(start, stop)
            if target is None:
                fresh.append(self.document.pieces[start:stop])
            else:
                runs.setdefault(target, []).append((start, stop))
        for piece in changed:
            home = self.homes[piece.key]
            if home in self.live and home is not None:
                rewritten.setdefault(home, []).append(piece)
        updates = []
        for row in sorted(runs.keys() | rewritten.keys()):
            update, left = self._grown(self.live[row], runs.get(row, []), rewritten.get(row, []))
            fresh += left
            updates += [] if update is None else [update]
        return fresh, updates

    def _unknown(self) -> list[tuple[int, int]]:
        """The runs of pieces that no drawer holds, as half-open ranges."""
        ranges: list[tuple[int, int]] = []
        for position, piece in enumerate(self.document.pieces):
            if piece.key in self.homes:
                continue
            if ranges and ranges[-1][1] == position:
                ranges[-1] = (ranges[-1][0], position + 1)
            else:
                ranges.append((position, position + 1))
        return ranges

    def _neighbour(self, start: int, stop: int) -> int | None:
        """The live drawer of the piece before the run; at the beginning, of the piece behind it."""
        beside = start - 1 if start > 0 else stop
        if beside >= len(self.document.pieces):
            return None
        home = self.homes[self.document.pieces[beside].key]
        return home if home in self.live else None

    def _grown(
        self, drawer: ImportedDrawer, runs: list[tuple[int, int]], rewritten: list[Piece]
    ) -> tuple[Update | None, list[Sequence[Piece]]]:
        """The drawer with its new pieces, and the pieces that need another drawer. An edited drawer stays as it is."""
        pieces = self.document.pieces
        new = [each for start, stop in runs for each in pieces[start:stop]]
        keys = {each.key for each in new}
        whole = [each for each in pieces if each.key in keys or self.homes.get(each.key) == drawer.row]
        content = render(whole)
        versions = (content, render([replace(each, text=each.said) for each in whole]))
        if not drawer.edited and _fits(content) and any(covers(each, drawer.content) for each in versions):
            return Update(drawer, content, [*new, *rewritten]), []
        left: list[Sequence[Piece]] = []
        taken: list[Piece] = []
        content = drawer.content
        for start, stop in runs:
            before = pieces[start - 1] if start > 0 else None
            longer = f"{content}\n\n{render(pieces[start:stop], after=before.speaker)}" if before else ""
            if before and not drawer.edited and content.endswith((before.text, before.said)) and _fits(longer):
                content, taken = longer, [*taken, *pieces[start:stop]]
            else:
                left.append(pieces[start:stop])
        for each in rewritten:
            longer = f"{content}\n\n{render([each])}"
            if covers(content, each.text) or covers(content, each.said):
                continue  # it has become shorter, and what it said stays
            if not drawer.edited and _fits(longer):
                content, taken = longer, [*taken, each]
            else:
                left.append([each])
        return (Update(drawer, content, taken) if taken else None), left


def _fits(content: str) -> bool:
    return fits(content, LONGEST_EXCHANGE + _LABEL_CHARACTERS)


def _part(document: Document, pieces: Sequence[Piece]) -> Document:
    if tuple(pieces) == document.pieces:
        return document
    return replace(document, content=render(pieces), pieces=tuple(pieces))


def _has_moved(drawer: ImportedDrawer, path: str, is_gone: Callable[[str], bool]) -> bool:
    """Is the drawer's file gone, and does it name it still?"""
    return drawer.path != path and drawer.source_file == drawer.path and is_gone(drawer.path)


class DryRun:
    """Remembers what a dry run has counted, since several files may hold the same messages.

    Their keys are in a temporary file, since there may be many. `moved` are the notes that the run would move.
    """

    def __init__(self) -> None:
        self._records = DiskSet()
        self.moved: set[int] = set()

    def __enter__(self) -> DryRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._records.close()

    def without_known(self, documents: Iterable[Document]) -> list[Document]:
        """The documents without the records that are remembered, as far as something is left of them."""
        left = []
        for document in documents:
            pieces = tuple(each for each in document.pieces if each.key not in self._records)
            if len(pieces) == len(document.pieces):
                left.append(document)
            elif pieces:
                left.append(replace(document, pieces=pieces, content=render(pieces)))
        return left

    def remember(self, documents: Sequence[Document]) -> None:
        """Remember the records of these documents."""
        self._records.update(piece.key for document in documents for piece in document.pieces)
