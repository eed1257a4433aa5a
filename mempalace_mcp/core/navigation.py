"""What finding one's way in a palace shows: wings and rooms, and how they hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mempalace_mcp.core.model import Fact, Resolved


@dataclass(frozen=True, slots=True)
class NameCount:
    """The name of a wing, or of rooms, and the live drawers in it."""

    name: str
    drawers: int


@dataclass(frozen=True, slots=True)
class SharedRoom:
    """Rooms of one name in several wings; `wings` are the largest ones, `wing_count` counts all of them."""

    room: str
    wings: Sequence[str]
    wing_count: int
    drawers: int


@dataclass(frozen=True, slots=True)
class Reached:
    """A room on a traversal: `hop` counts from 0 where that begins. A hop is `via` a `tunnel` or the `name`, from a
    room in a wing."""

    wing: str
    room: str
    drawers: int
    hop: int
    via: str | None = None
    from_wing: str | None = None
    from_room: str | None = None


@dataclass(frozen=True, slots=True)
class Traversal:
    """Rooms, nearest first, a page of them; `total` counts those visited, and if `truncated` there are more around."""

    rooms: Sequence[Reached]
    total: int
    next_cursor: str | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class TunnelFigures:
    """Wings and rooms with live drawers, names of rooms that several wings share, and tunnels."""

    wings: int
    rooms: int
    shared: int
    tunnels: int


@dataclass(frozen=True, slots=True)
class GraphPath:
    """A shortest chain of facts from one entity to another, in its order; None if there is none within the hops.

    If `truncated`, that is so only among the entities that were visited.
    """

    source: Resolved
    target: Resolved
    facts: Sequence[Fact] | None
    truncated: bool
