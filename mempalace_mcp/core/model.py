"""The values that travel between the layers: drawers, facts, diaries, search results. All are frozen dataclasses.

Instants are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import Name

Metadata = Mapping[str, Any]


class Priority(StrEnum):
    """The order in which texts are embedded: what an agent files comes before what is imported."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class ModelStamp:
    """The model that made the vectors of a palace. Vectors of different models are never mixed."""

    name: str
    quantization: str
    dimension: int


TOKEN_BYTES = 32
"""What is kept of the vector of one token."""


@dataclass(frozen=True, slots=True)
class Place:
    """The wing and the room of a drawer."""

    wing: Name
    room: Name


@dataclass(frozen=True, slots=True)
class Target:
    """Where drawers are to be moved; what is None stays as it is for each of them."""

    wing: Name | None
    room: Name | None

    def from_place(self, place: Place) -> Place:
        """The place of a drawer that stood there. A name that differs in case only is the same one."""
        wing = self.wing if self.wing and self.wing.key != place.wing.key else place.wing
        room = self.room if self.room and self.room.key != place.room.key else place.room
        return Place(wing, room)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a drawer's content, in characters, half open. It is embedded and indexed as one chunk."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stored chunk with its text."""

    chunk: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a text comes from, when what it tells happened, and the id of the drawer that has taken its place.

    Each field is a column of drawers and of versions.
    """

    source_file: str | None = None
    occurred_at: Instant | None = None
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True)
class NewDrawer(Provenance):
    """A drawer to file, and the ids of those whose place it takes. Texts and names have been verified."""

    place: Place
    content: str
    added_by: str | None = None
    metadata: Metadata = field(default_factory=dict)
    priority: Priority = Priority.INTERACTIVE
    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawer(Provenance):
    """A filed text with everything known about it. `version` counts from 1 and grows with each update.

    `superseded_by` is the newest live drawer of those that took its place one after the other.
    """

    drawer_id: str
    wing: str
    room: str
    content: str
    added_by: str | None
    created_at: Instant
    updated_at: Instant
    deleted_at: Instant | None
    version: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class DrawerVersion(Provenance):
    """The state of a drawer before an update."""

    version: int
    wing: str
    room: str
    content: str
    metadata: Metadata
    replaced_at: Instant


@dataclass(frozen=True, slots=True)
class Filed:
    """The outcome of filing one drawer: a new one, or the live one that says the same."""

    drawer_id: str
    created: bool
    near_duplicate_of: str | None = None


NOTHING = ""


@dataclass(frozen=True, slots=True)
class DrawerChanges(Provenance):
    """What an update replaces; None leaves a field as it is. `superseded_by` is `NOTHING` to take that back."""

    content: str | None = None
    wing: Name | None = None
    room: Name | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class DrawerFilter:
    """A filter of drawers. Names are keys. `since` is inclusive, `before` exclusive, of occurred_at or else created_at.

    `within` limits the filter to some wings. `asked` holds the texts from which the instants were read.
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
        """The filter as a cursor binds it. It is the same for all pages, although `now` and `today` move on."""
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
class Tunnel:
    """A connection between two rooms that an agent has dug, with the drawers that it is about, if it names some.

    Id and instant are empty until it is dug.
    """

    source: Place
    target: Place
    label: str
    source_drawer_id: str | None = None
    target_drawer_id: str | None = None
    tunnel_id: str = ""
    created_at: Instant = 0

    def dug(self, tunnel_id: str, created_at: Instant) -> Tunnel:
        """The same once it is there."""
        return replace(self, tunnel_id=tunnel_id, created_at=created_at)


@dataclass(frozen=True, slots=True)
class Found:
    """Drawers asked for by id, in the order asked, and the ids that no live drawer has."""

    drawers: Sequence[Drawer]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The outcome of a deletion or of its dry run. `sample` holds the first few drawers concerned, `since` and `before`
    are the instants of the filter."""

    matched: int
    deleted: int
    dry_run: bool
    missing: Sequence[str]
    sample: Sequence[Drawer]
    since: Instant | None = None
    before: Instant | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The outcome of a move or of its dry run: `matched` drawers are live, and `moved` ones stood elsewhere before.

    `sample` holds the first few as they stood; `since` and `before` are the instants of the filter. By `move_id` the
    move can be undone; None if nothing moved.
    """

    matched: int
    moved: int
    dry_run: bool
    missing: Sequence[str]
    sample: Sequence[Drawer]
    since: Instant | None = None
    before: Instant | None = None
    move_id: int | None = None

    def done(self, moved: int, move_id: int | None) -> Move:
        """The same once so many have moved."""
        return replace(self, moved=moved, dry_run=False, move_id=move_id)


@dataclass(frozen=True, slots=True)
class Renaming:
    """The outcome of renaming a wing or a room, or of its dry run; of a wing `room` is None.

    `drawers` are in it, those in the trash included. If `merges`, there are live drawers where the new name leads. By
    `move_id` it can be undone; None if nothing moved.
    """

    wing: str
    room: str | None
    new_name: str
    drawers: int
    merges: bool
    dry_run: bool
    move_id: int | None = None


@dataclass(frozen=True, slots=True)
class Restoration:
    """The ids of drawers that are live again, and those that are not in the trash."""

    restored: Sequence[str]
    missing: Sequence[str]


class Direction(StrEnum):
    """Facts of an entity where it is the subject, the object, or either."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"
    BOTH = "both"


RETRACT = "To take back a fact that never was true, invalidate it with retract: true."
"""A hint of refusals that may concern such a fact."""


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact to record. `valid_from` is inclusive, `valid_to` exclusive; None means unbounded.

    `recorded_at` is when another memory recorded it, for a fact that comes from there; None means now.

    Raises:
        InvalidArgument: the interval is empty or reversed, or the confidence is not from 0 to 1.
    """

    subject: Name
    predicate: Name
    object: str
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    confidence: float | None = None
    source_drawer_id: str | None = None
    recorded_at: Instant | None = None

    def __post_init__(self) -> None:
        if self.valid_from is not None and self.valid_to is not None and self.valid_to <= self.valid_from:
            raise InvalidArgument(
                "valid_to is not later than valid_from, so the fact would never hold",
                argument="valid_to",
                hint="valid_from is inclusive; valid_to is exclusive as a time, and includes the day as a date. "
                + RETRACT,
            )
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise InvalidArgument(
                f"confidence must be a number from 0 to 1, not {self.confidence!r}",
                argument="confidence",
                hint="Leave it out if unsure.",
            )


@dataclass(frozen=True, slots=True)
class Fact:
    """A recorded fact. It is true during [valid_from, valid_to) and believed during [recorded_at, retracted_at).

    None is an open end.
    """

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
        """True if the fact holds at the instant."""
        return not self.begins_after(instant) and (self.valid_to is None or instant < self.valid_to)

    def begins_after(self, instant: Instant) -> bool:
        """True if the fact begins only after the instant."""
        return self.valid_from is not None and instant < self.valid_from


@dataclass(frozen=True, slots=True)
class FactAdded:
    """The outcome of recording a fact: a new one, or the identical one that was there."""

    fact: Fact
    created: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """The entity that is stored under a name, or None. `suggestions` are similar names."""

    asked: str
    entity: str | None
    suggestions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class GraphAnswer:
    """Facts about an entity, nearest first; `depths` counts their hops from 1, `total` counts them before the limit.

    Within a hop, facts that hold at the instant `at` come first, then future ones, then ended ones. If `truncated`,
    there are more entities around than were visited, and `total` counts facts of the visited ones alone. `next_cursor`
    is None when no facts follow.
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
    """Sizes of the knowledge graph as it is believed now. A fact is `current`, `ended`, or still to come (`future`).

    `predicates` holds the most used ones with the number of their facts, `predicate_count` counts all of them.
    """

    entities: int
    facts: int
    current: int
    future: int
    ended: int
    predicates: Mapping[str, int]
    predicate_count: int


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
    """Names that complete a beginning, the best first; `total` counts all that do."""

    values: Sequence[str]
    total: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The places where drawers were filed, changed, moved, deleted or restored, as keys of wing and room.

    `drawers` holds those of the watched drawers that changed.
    """

    places: frozenset[tuple[str, str]]
    drawers: frozenset[str]


@dataclass(frozen=True, slots=True)
class WakeUp:
    """The summary for a new session, within a token budget. `drawers` counts the live drawers it is about."""

    text: str
    tokens: int
    drawers: int
    truncated: bool


class SearchMode(StrEnum):
    """What a search ranks by: meaning and words, meaning alone, or words alone."""

    HYBRID = "hybrid"
    SEMANTIC = "semantic"
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class Hit:
    """One drawer found, its best passage, which begins at the character `start`, and its scores.

    The scores are those of the chunk in the passage: `semantic` is its cosine to the query, `lexical` the share of what
    the query could earn by its words; None where that side did not take part. `confidence` is about how often a hit of
    such a score is right. `explanation` has what makes up the score, if it was asked for. `copies` are the ids of near
    copies that are not shown.
    """

    drawer: Drawer
    passage: str
    start: int
    score: float
    semantic: float | None
    lexical: float | None
    confidence: float
    explanation: Mapping[str, float] | None = None
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of a search. `degraded` says which side is missing, `pending` counts chunks without a vector.

    `confidence` is that of the best hit. `nothing_covers` when it is so low that probably nothing filed answers.
    """

    hits: Sequence[Hit]
    mode: SearchMode
    degraded: str | None
    pending: int
    truncated: bool
    confidence: float = 0.0
    nothing_covers: bool = False


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A live drawer that says the same or nearly the same. `kind` is `exact`, `normalized` or `similar`."""

    drawer: Drawer
    kind: str
    similarity: float


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The duplicates that were found, best first."""

    matches: Sequence[Duplicate]
    degraded: str | None
