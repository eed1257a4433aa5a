"""Disks that lose power: what was synced is there, of the rest any sectors may be new, old or neither."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.storage.recorder import Event, Kind

SECTOR_BYTES = 512


class StoredFile:
    """A file of which the latest changes are still on their way."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self._changes: list[Event] = []

    def change(self, event: Event) -> None:
        """A write or a cut, not yet synced."""
        self._changes.append(event)

    def sync(self) -> None:
        """All changes so far are safe from now on."""
        for change in self._changes:
            _carry_out(self.synced, change)
        self._changes.clear()

    @property
    def is_safe(self) -> bool:
        """Is nothing on its way?"""
        return not self._changes

    def after_cut(self, dice: random.Random) -> bytes:
        """What may be left of it."""
        left = bytearray(self.synced)
        survival = dice.choice((0.0, 0.3, 0.9, 1.0))
        for change in self._changes:
            for part in _sectors(change):
                if dice.random() < survival:
                    _carry_out(left, part)
                elif part.data and dice.random() < 0.05:
                    _carry_out(left, Event(part.kind, part.file, part.offset, dice.randbytes(len(part.data))))
        return bytes(left)


class Disk:
    """The files of a palace, as the events of a recorder make them."""

    def __init__(self) -> None:
        self.files: dict[str, StoredFile] = {}
        self._removed: dict[str, StoredFile] = {}

    def take(self, event: Event) -> None:
        """One more event."""
        if event.kind in (Kind.WRITTEN, Kind.TRUNCATED):
            self.files.setdefault(event.file, StoredFile()).change(event)
        elif event.kind is Kind.SYNCED:
            self.files.setdefault(event.file, StoredFile()).sync()
        elif event.kind is Kind.NAMES_SYNCED:
            self._removed.clear()
        elif event.kind is Kind.DELETED and event.file in self.files:
            self._removed[event.file] = self.files.pop(event.file)

    def cut(self, directory: Path, dice: random.Random) -> None:
        """Cut the power; what is left is written to a directory. A removal that is not durable may not have been."""
        directory.mkdir()
        for name, file in {**self._removed, **self.files}.items():
            if name in self._removed and dice.random() < 0.5:
                file = self._removed[name]
                if dice.random() < 0.5:
                    continue
            (directory / name).write_bytes(file.after_cut(dice))


def torn(old: bytes, new: bytes, dice: random.Random, keep: int = 0) -> bytes:
    """A mixture of two states of a file, sector by sector; the first `keep` bytes are the old ones."""
    mixed = bytearray(old)
    survival = dice.choice((0.0, 0.3, 0.9, 1.0))
    for part in _sectors(Event(Kind.WRITTEN, offset=keep, data=new[keep:])):
        if dice.random() < survival:
            _carry_out(mixed, part)
    return bytes(mixed)


def _sectors(change: Event) -> Iterator[Event]:
    """The parts of a change that a disk does one by one."""
    if change.kind is Kind.TRUNCATED:
        yield change
        return
    start, end = change.offset, change.offset + len(change.data)
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Event(change.kind, change.file, start, change.data[start - change.offset : stop - change.offset])
        start = stop


def _carry_out(content: bytearray, change: Event) -> None:
    if change.kind is Kind.TRUNCATED:
        del content[change.offset :]
        return
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def acknowledged(events: Iterable[Event]) -> set[int]:
    """The numbers that somebody was told."""
    return {event.offset for event in events if event.kind is Kind.ACKNOWLEDGED}
