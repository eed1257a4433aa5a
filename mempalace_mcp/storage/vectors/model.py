"""What the vector index answers and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mempalace_mcp.core.figures import counter, state


class ChromaState(StrEnum):
    """How the Chroma part stands. Searches are exact in every state but `READY`."""

    OFF = "off"  # by setting
    ABSENT = "absent"  # not opened yet, or too few rows for it
    BUILDING = "building"  # holds less than half of the rows
    READY = "ready"
    FOREIGN = "foreign"  # somebody else changed, replaced or deleted its files; about to be rebuilt
    HELD_ELSEWHERE = "held elsewhere"  # another process holds index.lock
    FAILED = "failed"  # an error; about to be rebuilt


class Cause(StrEnum):
    """Why Chroma's client was opened, and why its files were thrown away before if they were."""

    START = "start"
    BEGUN = "begun"
    RECONNECT = "reconnect"
    REBUILD = "rebuild"
    COMPACTION = "compaction"
    FOREIGN_WRITE = "foreign write"
    FILES_REPLACED = "files deleted or replaced"
    FILES_UNREADABLE = "files unreadable"
    FILES_MISSING = "files missing"
    FILES_CHANGED = "files changed"
    NOT_CLOSED = "not closed cleanly"
    NOT_CLOSED_BEFORE_RESTART = "not closed before a restart of the machine"
    OTHER_PALACE = "of another palace"
    AHEAD = "ahead of the palace"
    DIFFERENT = "differs from SQLite"
    LOCK_REMOVED = "its lock was removed"
    OPENING_FAILED = "opening failed"
    QUERY_FAILED = "a query failed"
    CHANGE_FAILED = "a change failed"
    READING_FAILED = "reading failed"
    CLOSING_FAILED = "closing failed"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk and the cosine of its vector to the query."""

    chunk: int
    cosine: float


@dataclass(frozen=True, slots=True)
class VectorStatistics:
    """The two parts in figures; `position` is how far Chroma follows the log of vectors.

    `rows_exact` are loaded into the exact matrix, `rows_live` of them belong to live drawers, `rows_tail` are not in
    Chroma. `process` is the child that runs Chroma, `generation` counts the openings of its client and `last_reopen`
    says why the last one happened.
    """

    mode: str
    rows_exact: int
    rows_live: int
    rows_tail: int
    chroma_state: ChromaState
    process: int | None
    chroma_rows: int
    chroma_deleted: int
    position: int
    generation: int = field(
        metadata=counter("index_generation", "Openings of Chroma.", metric="mempalace_index_openings_total")
    )
    last_reopen: Cause | None = field(metadata=state("index_last_reopen", "Why Chroma was opened last."))
    foreign_writes: int = field(
        metadata=counter("foreign_writes", "Foreign changes to Chroma.", metric="mempalace_index_foreign_writes_total")
    )
    rebuilds: int
    rebuild_seconds: float | None
    failures: int
    bytes_mapped: int
    bytes_memory: int
    bytes_chroma: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a part disagrees with SQLite; `part` is `exact` or `chroma`."""

    part: str
    chunk: int
    problem: str


@dataclass(frozen=True, slots=True)
class Reconnection:
    """What closing, forgetting and reopening everything changed, and what the check afterwards found."""

    before: VectorStatistics
    after: VectorStatistics
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class Serving:
    """What an open client holds: the log of this palace up to `position`, less what had vanished at `swept`."""

    generation: int
    palace: str
    position: int
    rows: int
    swept: int
