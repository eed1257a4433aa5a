"""Reads an export back into a palace, group by group. A second reading changes nothing, so it can be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import InvalidArgument, PalaceError, StorageError
from mempalace_mcp.palace import chunking
from mempalace_mcp.palace.exchange.files import Damaged, lines_of, opened
from mempalace_mcp.palace.exchange.lines import LONGEST_LINE, WrongLine, read_head, read_record
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.export_kinds import DRAWER, FILE, VERSION, Kind, Values
from mempalace_mcp.storage.export_merging import NO_DRAWER, OUTCOMES, Merging
from mempalace_mcp.storage.transactions import Transaction

GROUP = 200
GROUP_CHARACTERS = 256 * 1024
"""Of records that are stored at once: other writers wait for no more than that."""

NAMED = 20
"""How many of the lines that were not taken are named one by one."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that was not taken, and why. The head is line 1."""

    line: int
    reason: str


@dataclass(slots=True)
class Restored:
    """Adds up what has become of the records of a file."""

    path: Path
    expected: Mapping[str, int] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: int = 0
    rejected: int = 0
    named: list[Rejected] = field(default_factory=list)
    ended: bool = False

    @property
    def missing(self) -> int:
        """How many lines the head promises that did not come."""
        return max(0, sum(self.expected.values()) - max(0, self.lines - 1))

    @property
    def complete(self) -> bool:
        """Was all of it read and taken?"""
        return self.ended and not self.rejected and not self.missing

    def reject(self, line: int, reason: str) -> None:
        """Count a line that was not taken."""
        self.rejected += 1
        if len(self.named) < NAMED:
            self.named.append(Rejected(line, reason))

    def as_dict(self) -> dict[str, Any]:
        """The counts by kind and outcome, and the lines that were not taken."""
        kinds = dict.fromkeys(kind for kind, _ in self.outcomes)
        return {
            "path": str(self.path),
            "complete": self.complete,
            "lines": self.lines,
            "missing": self.missing,
            "records": {kind: {each: self.outcomes[kind, each] for each in OUTCOMES} for kind in kinds},
            "rejected": self.rejected,
            "rejected_lines": [{"line": each.line, "reason": each.reason} for each in self.named],
        }


@dataclass(slots=True)
class _Item:
    """A record that waits to be stored; of a drawer, with its versions."""

    line: int
    kind: Kind
    values: Values
    versions: list[Values] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.kind is not DRAWER or len(self.versions) == self.values["versions"]

    def is_followed_by(self, version: Values) -> bool:
        """Is it a version of this drawer, and no other one has its number?"""
        last = self.versions[-1]["version"] if self.versions else 0
        return bool(self.values.get("id") == version["drawer"] and last < version["version"])


class Restoration:
    """Reads one file into the palace."""

    def __init__(self, stores: Stores, path: Path) -> None:
        self._stores = stores
        self.report = Restored(path)
        self._before_files = 0

    def run(self) -> Iterator[Restored]:
        """Go through the file; each group is stored before the report is yielded.

        Raises:
            InvalidArgument: it is no export, or one of a later version, or what decompresses it is not installed.
            PalaceError: the file cannot be read, or the palace cannot be written.
        """
        try:
            with opened(self.report.path) as file:
                for group in _groups(self._whole(file)):
                    self._store(group)
                    yield self.report
                self.report.ended = True
        except Damaged as error:
            self.report.reject(self.report.lines + 1, f"{error}; what follows is not read")
        except OSError as error:
            raise StorageError(
                f"{self.report.path} cannot be read: {error.strerror}", hint="Check the file."
            ) from error
        yield self.report

    def _whole(self, file: BinaryIO) -> Iterator[_Item]:
        """The records that can be stored. What came before the file's damage is among them."""
        waiting: _Item | None = None
        failure: Damaged | None = None
        records = self._records(file)
        while True:
            try:
                item = next(records, None)
            except Damaged as error:
                item, failure = None, error
            if item is not None and item.kind is VERSION:
                if waiting is None or not waiting.is_followed_by(item.values):
                    self.report.reject(item.line, "a version that does not stand behind its drawer, or comes twice")
                else:
                    waiting.versions.append(item.values)
                continue
            if waiting is not None:
                yield from self._if_whole(waiting)
            waiting = item
            if item is None:
                break
        if failure is not None:
            raise failure

    def _if_whole(self, item: _Item) -> Iterator[_Item]:
        if item.is_whole:
            yield item
        else:
            told = f"of the {item.values['versions']} versions of {item.values['id']} {len(item.versions)} came"
            self.report.reject(item.line, f"{told}; the drawer is not taken without them")

    def _records(self, file: BinaryIO) -> Iterator[_Item]:
        head = read_head(file.readline(LONGEST_LINE))
        if head is None:
            raise InvalidArgument(
                f"{self.report.path} is no export of a palace",
                argument="PATHS",
                hint="Its first line names the format.",
            )
        self.report.expected, self.report.lines = head.counts, 1
        for number, line in enumerate(lines_of(file), 2):
            self.report.lines = number
            try:
                kind, values = read_record(line)
            except WrongLine as error:
                self.report.reject(number, str(error))
                continue
            self._before_files += kind is not FILE
            yield _Item(number, kind, values)

    def _has_all_before_files(self) -> bool:
        expected = sum(count for kind, count in self.report.expected.items() if kind != FILE.name)
        return not self.report.rejected and self._before_files >= expected

    def _store(self, group: Sequence[_Item]) -> None:
        drawers = self._stores.drawers
        # The state of a file says that nothing of it is to be read again: only if all of it has come.
        items = [each for each in group if each.kind is not FILE or self._has_all_before_files()]

        def work(tx: Transaction) -> list[str]:
            merging = Merging(tx, drawers, chunking.split)
            return [_take(merging, each) for each in items]

        outcomes = self._stores.writer.write(work, Deadline(COMMAND_SECONDS))
        for each, outcome in zip(items, outcomes, strict=True):
            self.report.outcomes[each.kind.name, outcome] += 1
            if each.kind is DRAWER and each.versions:
                self.report.outcomes[VERSION.name, outcome] += len(each.versions)
            if outcome == NO_DRAWER:
                self.report.reject(each.line, f"its drawer {each.values['drawer']} is not here")
        self._stores.filed()


def _take(merging: Merging, item: _Item) -> str:
    if item.kind is DRAWER:
        return merging.drawer(item.values, item.versions)
    return merging.record(item.kind.name, item.values)


def _groups(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    """A few records at a time. What came before a failure is a group, too."""
    group: list[_Item] = []
    characters = 0
    try:
        for item in items:
            if group and item.kind is FILE is not group[-1].kind:
                yield group  # what has become of all others is to be known first
                group, characters = [], 0
            group.append(item)
            characters += sum(len(values.get("content", "")) for values in (item.values, *item.versions))
            if len(group) >= GROUP or characters > GROUP_CHARACTERS:
                yield group
                group, characters = [], 0
    except (Damaged, PalaceError, EOFError, OSError):
        if group:
            yield group
        raise
    if group:
        yield group
