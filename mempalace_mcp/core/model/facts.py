"""The temporal knowledge graph: facts, and answers about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.text import Name


class Direction(StrEnum):
    """Which facts of an entity: where it is the subject, the object, or either."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact to record. `valid_from` is inclusive, `valid_to` exclusive; None means unbounded."""

    subject: Name
    predicate: Name
    object: str
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    confidence: float | None = None
    source_drawer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A recorded fact: true in the world during [valid_from, valid_to), known to the palace during
    [recorded_at, retracted_at). An open end is None."""

    fact_id: str
    subject: str
    predicate: str
    object: str
    valid_from: Instant | None
    valid_to: Instant | None
    recorded_at: Instant
    retracted_at: Instant | None
    confidence: float | None
    source_drawer_id: str | None

    def holds_at(self, instant: Instant) -> bool:
        """Is it true in the world at that instant?"""
        return not self.begins_after(instant) and (self.valid_to is None or instant < self.valid_to)

    def begins_after(self, instant: Instant) -> bool:
        """Is it still to come at that instant?"""
        return self.valid_from is not None and instant < self.valid_from


@dataclass(frozen=True, slots=True)
class FactAdded:
    """The outcome of recording a fact: a new one, or the identical one that was there."""

    fact: Fact
    created: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """How a name was understood: as the entity stored under it, or as none. `suggestions` are names like it."""

    asked: str
    entity: str | None
    suggestions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class GraphAnswer:
    """Facts about an entity, nearest first; `depths` counts their hops from 1, `total` counts them before the limit.

    Within a hop come those that hold at the instant `at`, then those to come, then those that ended. `truncated` says
    that there are more entities around than were visited: then `total` is of the visited ones alone. `next_cursor` is
    None when no facts follow.
    """

    resolved: Resolved
    facts: Sequence[Fact]
    depths: Sequence[int]
    total: int
    at: Instant
    truncated: bool
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class GraphStatistics:
    """Sizes of the knowledge graph, of what is believed now. A fact is `current`, `ended`, or still to come (`future`).

    `predicates` holds the most used ones with the number of their facts, `predicate_count` counts all of them.
    """

    entities: int
    facts: int
    current: int
    future: int
    ended: int
    predicates: Mapping[str, int]
    predicate_count: int
