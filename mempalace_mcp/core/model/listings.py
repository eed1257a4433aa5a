"""Pages, diaries, checkpoints, and the palace as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model.drawers import Drawer, RoomCount

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a listing; `total` counts all that match, `next_cursor` is opaque and None at the end."""

    items: Sequence[T]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class DiaryEntry:
    """One entry of an agent's diary; it is also a drawer and can be searched."""

    drawer_id: str
    agent: str
    topic: str
    content: str
    written_at: Instant


@dataclass(frozen=True, slots=True)
class CheckpointItem:
    """The outcome of one drawer or fact of a checkpoint."""

    id: str
    created: bool
    near_duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What a checkpoint stored, in the order given."""

    drawers: Sequence[CheckpointItem]
    facts: Sequence[CheckpointItem]
    diary: DiaryEntry | None


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Wings, rooms and their live drawers."""

    rooms: Sequence[RoomCount]
    drawers: int


@dataclass(frozen=True, slots=True)
class Wing:
    """A wing, its rooms that hold drawers, and the live drawers in all of them."""

    name: str
    rooms: Sequence[RoomCount]
    drawers: int


@dataclass(frozen=True, slots=True)
class Room:
    """A room and its newest drawers, a page of them."""

    wing: str
    name: str
    drawers: Page[Drawer]


@dataclass(frozen=True, slots=True)
class Completion:
    """Names that fit what was begun, the best first; `total` counts all that fit."""

    values: Sequence[str]
    total: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What was filed, changed, moved, deleted or restored: the places concerned, as keys of wing and room, and those
    of the drawers asked about."""

    places: frozenset[tuple[str, str]]
    drawers: frozenset[str]


@dataclass(frozen=True, slots=True)
class WakeUp:
    """What a new session needs, within a token budget: the text, and what it is made of."""

    text: str
    tokens: int
    drawers: int
    truncated: bool
