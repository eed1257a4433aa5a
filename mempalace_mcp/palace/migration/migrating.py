"""Files what other memories hold, in groups, and reads it back.

A second run adds nothing: each item is known by its old id. A text that has changed in its memory since updates its
drawer, unless somebody has edited that; a drawer that was deleted here stays deleted. So a run that was cut short goes
on where it ended.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.core.model import DrawerChanges, NewDrawer, NewFact, Span
from mempalace_mcp.core.text import excerpt, verify_text
from mempalace_mcp.palace import chunking
from mempalace_mcp.palace.arguments import MAX_SOURCE_BYTES
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options, Source, TextItem
from mempalace_mcp.palace.migration.shaping import mended, new_drawer, new_fact, parts_of
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage import foreign_ids
from mempalace_mcp.storage.foreign_ids import ForeignItem
from mempalace_mcp.storage.rows import content_hash
from mempalace_mcp.storage.transactions import Transaction

GROUP = 64
GROUP_CHARACTERS = 512 * 1024
"""Of items that are stored at once: other writers wait for no more than that."""

CHECKED_AT_ONCE = 200
EXAMPLES = 20
LONGEST_EXAMPLE = 300
"""How many of what was left out are named one by one."""

KINDS = ("drawers", "diary_entries", "facts", "tunnels", "tunnel_labels")
OUTCOMES = ("filed", "updated", "unchanged", "kept", "in_trash")
"""`kept` are drawers that somebody has edited here while their text changed in its memory."""


@dataclass(slots=True)
class Report:
    """Adds up what becomes of the items of one memory."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, bool]] = field(default_factory=Counter)
    examples: list[LeftOut] = field(default_factory=list)
    wings: Counter[str] = field(default_factory=Counter)
    joined: int = 0
    characters: int = 0
    items: int = 0
    _started: float = field(default_factory=time.monotonic)

    def add(self, kind: str, outcome: str) -> None:
        """Count an item."""
        self.outcomes[kind, outcome] += 1

    def leave_out(self, item: LeftOut) -> None:
        """Count what does not come."""
        reason = _printable(item.reason)
        self.left_out[reason, item.is_derived] += item.count
        if not item.is_derived and len(self.examples) < EXAMPLES:
            self.examples.append(replace(item, what=_printable(item.what), reason=reason))

    def filed(self) -> int:
        """New items so far."""
        return sum(self.outcomes[kind, "filed"] for kind in KINDS)

    def lost(self) -> int:
        """How many items of the memory are not in the palace, although they are not derived."""
        return sum(count for (_, is_derived), count in self.left_out.items() if not is_derived)

    def as_dict(self) -> dict[str, Any]:
        """The counts by kind and outcome, and the reasons with theirs."""
        return {
            **{
                kind: {
                    "read": sum(self.outcomes[kind, outcome] for outcome in OUTCOMES),
                    **{outcome: self.outcomes[kind, outcome] for outcome in OUTCOMES},
                }
                for kind in KINDS
            },
            "pieces_joined": self.joined,
            "characters": self.characters,
            "wings": dict(self.wings.most_common()),
            "left_out": {reason: count for (reason, derived), count in self.left_out.most_common() if not derived},
            "not_needed": {reason: count for (reason, derived), count in self.left_out.most_common() if derived},
            "examples": [{"what": each.what, "reason": each.reason} for each in self.examples],
            "seconds": round(time.monotonic() - self._started, 3),
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading back has found: drawers whose text is that of their memory, byte for byte; those that were edited or
    deleted here since; and the ids of those that should be the same and are not."""

    same: int
    edited: int
    deleted: int
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that is ready to be filed."""

    item: TextItem
    drawer: NewDrawer
    digest: bytes

    @property
    def kind(self) -> str:
        return "drawers" if self.item.entry is None else "diary_entries"


@dataclass(frozen=True, slots=True)
class _Fact:
    """A fact that is ready to be recorded."""

    item: FactItem
    fact: NewFact

    @property
    def kind(self) -> str:
        return self.item.kind


Prepared = _Text | _Fact
_WRITTEN = ("filed", "updated")


class Migration:
    """Brings one memory into the palace; with `dry_run` it only looks what would come."""

    def __init__(self, stores: Stores, source: Source, path: Path, options: Options, *, dry_run: bool = False) -> None:
        self._stores = stores
        self._source = source
        self._path = path
        self._options = options
        self._dry_run = dry_run
        self.scope = scope_of(source, path)
        self.report = Report()

    def run(self) -> Iterator[Report]:
        """Go through the memory, group by group; each group is stored before the report is yielded.

        Raises:
            PalaceError: the memory or the palace cannot be read or written any further.
        """
        for group in _groups(self._prepared(self._source.read(self._path, self._options))):
            if new := self._look(group):
                self._store(new)
            self.report.items += len(group)
            yield self.report

    def check(self) -> Iterator[Checked]:
        """Read back every drawer that came from this memory, in this run or before; the last result is the whole."""
        same = edited = deleted = 0
        wrong: list[str] = []
        after = ""
        while True:
            with self._stores.reader.read() as connection:
                texts = foreign_ids.migrated_texts(connection, self.scope, after, CHECKED_AT_ONCE)
            for each in texts:
                if each.content is None or not each.live:
                    deleted += 1
                elif content_hash(each.content) == each.digest:
                    same += 1
                elif content_hash(each.content) == each.present:
                    edited += 1
                else:
                    wrong.append(each.id)
            yield Checked(same, edited, deleted, tuple(wrong))
            if len(texts) < CHECKED_AT_ONCE:
                return
            after = texts[-1].id

    def _prepared(self, items: Iterable[Item]) -> Iterator[Prepared]:
        """The items as they can be stored; what cannot be is left out."""
        for item in items:
            if isinstance(item, LeftOut):
                self.report.leave_out(item)
                continue
            try:
                yield from self._shaped(item)
            except InvalidArgument as error:
                self.report.leave_out(LeftOut(item.id, _reason(error)))

    def _shaped(self, item: TextItem | FactItem) -> Iterator[Prepared]:
        verify_text(item.id, "id", MAX_SOURCE_BYTES)
        if isinstance(item, FactItem):
            yield _Fact(item, new_fact(item))
            return
        for part in parts_of(item):
            drawer = new_drawer(part, self._source.name)
            yield _Text(part, drawer, content_hash(part.content))

    def _look(self, group: Sequence[Prepared]) -> list[Prepared]:
        """Count what need not be stored of a group, or would be; returns the rest."""
        with self._stores.reader.read() as connection:
            known = foreign_ids.find_items(connection, self.scope, [each.item.id for each in group])
        new = []
        for each in group:
            fate = _fate(each, known.get(each.item.id))
            if fate in _WRITTEN and not self._dry_run:
                new.append(each)
            else:
                self._count(each, fate)
        return new

    def _store(self, group: Sequence[Prepared]) -> None:
        """Store items in one transaction, in which it is decided anew what becomes of them."""
        spans = {each.item.id: chunking.split(each.item.content) for each in group if isinstance(each, _Text)}

        def work(tx: Transaction) -> list[str]:
            known = foreign_ids.find_items(tx.connection, self.scope, [each.item.id for each in group])
            return [self._save(tx, each, known.get(each.item.id), spans.get(each.item.id, ())) for each in group]

        outcomes = self._stores.writer.write(work, Deadline(COMMAND_SECONDS))
        for each, outcome in zip(group, outcomes, strict=True):
            self._count(each, outcome)
        self._stores.filed()

    def _save(self, tx: Transaction, each: Prepared, known: ForeignItem | None, spans: Sequence[Span]) -> str:
        """Do with an item what is to be done, and say what that was."""
        outcome = _fate(each, known)
        if isinstance(each, _Fact):
            return self._record(tx, each) if outcome == "filed" else outcome
        if outcome == "filed":
            return self._file(tx, each, spans)
        if outcome == "updated" and known is not None and known.drawer_id is not None:
            changes = DrawerChanges(content=each.drawer.content)
            self._stores.drawers.update(tx, known.drawer_id, changes, spans)
            self._remember(tx, each, known.drawer_id)
        return outcome

    def _file(self, tx: Transaction, each: _Text, spans: Sequence[Span]) -> str:
        filed = self._stores.drawers.file(tx, each.drawer, spans)
        if each.item.entry is not None:
            agent, topic = mended(each.item.entry.agent, "unknown"), mended(each.item.entry.topic, "general")
            self._stores.diary.enter(tx, filed.drawer_id, agent, topic.shown)
        self._remember(tx, each, filed.drawer_id)
        return "filed" if filed.created else "unchanged"

    def _remember(self, tx: Transaction, each: _Text, drawer_id: str) -> None:
        foreign_ids.save_item(tx, self.scope, (each.item.id, *each.item.other_ids), drawer_id, each.digest)
        tx.mark_changed()

    def _record(self, tx: Transaction, each: _Fact) -> str:
        source = None
        if each.item.source_id is not None:
            found = foreign_ids.find_items(tx.connection, self.scope, [each.item.source_id]).get(each.item.source_id)
            source = found.drawer_id if found is not None and found.live else None
        added = self._stores.graph.add(tx, replace(each.fact, source_drawer_id=source))
        foreign_ids.save_item(tx, self.scope, [each.item.id], None, None)
        tx.mark_changed()
        return "filed" if added.created else "unchanged"

    def _count(self, each: Prepared, outcome: str) -> None:
        self.report.add(each.kind, outcome)
        if isinstance(each, _Text):
            self.report.joined += len(each.item.other_ids)
            self.report.characters += len(each.drawer.content)
            if outcome == "filed":
                self.report.wings[each.drawer.place.wing.shown] += 1


def scope_of(source: Source, path: Path) -> str:
    """What the old ids of a memory belong to: its kind, and its path where other ones of that kind have them too."""
    return source.name if source.has_unique_ids else f"{source.name}:{path.resolve()}"


def _fate(each: Prepared, known: ForeignItem | None) -> str:
    """What is to become of an item, of which this is known."""
    if known is None:
        return "filed"
    if isinstance(each, _Fact):
        return "unchanged"
    if known.drawer_id is None or not known.live:
        return "in_trash"
    if known.digest in (None, each.digest):
        return "unchanged"
    return "updated" if known.present in (known.digest, each.digest) else "kept"


def _groups(items: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """A few items at a time; none of them has an id twice. What came before a failure is a group too."""
    group: dict[str, Prepared] = {}
    characters = 0
    try:
        for each in items:
            if each.item.id in group or len(group) >= GROUP or characters > GROUP_CHARACTERS:
                yield list(group.values())
                group, characters = {}, 0
            group[each.item.id] = each
            characters += len(each.item.content) if isinstance(each, _Text) else 0
    except PalaceError:
        if group:
            yield list(group.values())
        raise
    if group:
        yield list(group.values())


def _printable(text: str) -> str:
    """The beginning of a text, without what no UTF-8 can hold."""
    return excerpt(text, LONGEST_EXAMPLE).encode("utf-8", "replace").decode("utf-8")


_NUMBER = re.compile(r"\d[\d,]*|'[^']*'|\"[^\"]*\"")


def _reason(error: InvalidArgument) -> str:
    """What is wrong with an item, without what differs from item to item, so that reasons can be counted."""
    return f"cannot be stored: {_NUMBER.sub('…', error.message)}"
