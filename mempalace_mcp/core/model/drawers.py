"""Drawers: what is filed, where it stands, what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.text import Name

Metadata = Mapping[str, Any]


class Priority(StrEnum):
    """What is embedded first: what an agent just said, or a mass of imported text."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class ModelStamp:
    """What made the vectors of a palace. Vectors of different stamps are never mixed."""

    name: str
    quantization: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a drawer stands."""

    wing: Name
    room: Name


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a drawer's content, in characters, half open: what is embedded and indexed as one chunk."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stored chunk with its text."""

    chunk: int
    text: str


@dataclass(frozen=True, slots=True)
class NewDrawer:
    """What the caller wants filed. Texts and names have been verified."""

    place: Place
    content: str
    source_file: str | None = None
    added_by: str | None = None
    occurred_at: Instant | None = None
    metadata: Metadata = field(default_factory=dict)
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, slots=True)
class Drawer:
    """A filed text with everything known about it. `version` counts from 1 and grows with each update."""

    drawer_id: str
    wing: str
    room: str
    content: str
    source_file: str | None
    added_by: str | None
    occurred_at: Instant | None
    created_at: Instant
    updated_at: Instant
    deleted_at: Instant | None
    version: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class DrawerVersion:
    """What a drawer said before an update."""

    version: int
    wing: str
    room: str
    content: str
    source_file: str | None
    occurred_at: Instant | None
    metadata: Metadata
    replaced_at: Instant


@dataclass(frozen=True, slots=True)
class Filed:
    """The outcome of filing one drawer: a new one, or the live one that says the same."""

    drawer_id: str
    created: bool
    near_duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class DrawerChanges:
    """What an update replaces; None leaves a field as it is."""

    content: str | None = None
    wing: Name | None = None
    room: Name | None = None
    source_file: str | None = None
    occurred_at: Instant | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class DrawerFilter:
    """Which drawers: names by key; `since` inclusive, `before` exclusive, of occurred_at or else created_at.

    `within` are the only wings that count, whatever `wing` asks for. `asked` is what the instants were read from.
    """

    wing: str | None = None
    room: str | None = None
    source_file: str | None = None
    since: Instant | None = None
    before: Instant | None = None
    within: tuple[str, ...] | None = None
    asked: tuple[str | None, str | None] = field(default=(None, None), compare=False)

    @property
    def question(self) -> DrawerFilter:
        """The same for every page of a listing: what `now` and `today` stand for goes on from one to the next."""
        return self if self.asked == (None, None) else replace(self, since=None, before=None)

    @property
    def is_empty(self) -> bool:
        """True when every drawer matches."""
        return self == DrawerFilter()


@dataclass(frozen=True, slots=True)
class RoomCount:
    """A room and its live drawers."""

    wing: str
    room: str
    drawers: int


@dataclass(frozen=True, slots=True)
class Found:
    """Drawers asked for by id, in the order asked, and the ids that no live drawer has."""

    drawers: Sequence[Drawer]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion did or, as a dry run, would do; `sample` shows the first few drawers concerned."""

    matched: int
    deleted: int
    dry_run: bool
    missing: Sequence[str]
    sample: Sequence[Drawer]


@dataclass(frozen=True, slots=True)
class Restoration:
    """Which drawers are live again, and which ids are not in the trash."""

    restored: Sequence[str]
    missing: Sequence[str]
