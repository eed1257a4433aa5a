"""Values that the vector indexes return and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from mempalace_mcp.core.figures import counter, state


class IndexState(StrEnum):
    """The state of the approximate index of a palace. Searches are exact in every state but `READY`."""

    OFF = "off"  # by setting
    ABSENT = "absent"  # not opened yet, or too few rows for it
    BUILDING = "building"  # too little of it is there
    READY = "ready"
    FOREIGN = "foreign"  # another program changed, replaced or deleted its files; about to be rebuilt
    HELD_ELSEWHERE = "held elsewhere"  # another process holds index.lock
    FAILED = "failed"  # an error; about to be rebuilt


class Cause(StrEnum):
    """Why Chroma's client was opened, and why its files were thrown away before if they were."""

    START = "start"
    BEGUN = "begun"  # there were no files
    RECONNECT = "reconnect"  # asked for
    REBUILD = "rebuild"  # asked for
    COMPACTION = "compaction"  # the files held too many deleted rows
    NOT_CLOSED = "not closed cleanly"
    FILES_CHANGED = "files changed"  # written, replaced or deleted by another program
    DIFFERENT = "differs from SQLite"  # of another palace, or of another state of this one
    FAILED = "failed"  # an error; the log tells which


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk and the cosine of its vector to the query."""

    chunk: int
    cosine: float


class VectorStatistics(Protocol):
    """Figures of a palace's vectors, as a dataclass: these and others of its kind, all of which `status` shows."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def mode(self) -> str:
        """Which kind of index it is."""
        ...

    @property
    def state(self) -> IndexState:
        """By which health is judged."""
        ...

    @property
    def rows_indexed(self) -> int:
        """How many vectors the approximate index holds."""
        ...

    @property
    def rows_live(self) -> int | None:
        """How many vectors of live drawers the last thorough look has found; None before it."""
        ...


@dataclass(frozen=True, slots=True)
class ChromaStatistics:
    """Figures of the exact matrix and of Chroma.

    `rows_exact` are loaded into the exact matrix: `rows_live` of them belong to live drawers, `rows_tail` are not
    in Chroma. `position` is how far Chroma follows the log of vectors. `process` is the id of the child that runs
    Chroma. `generation` counts the openings of the client, and `last_reopen` is the cause of the last one.
    """

    mode: str
    rows_exact: int
    rows_live: int
    rows_tail: int
    chroma_state: IndexState
    process: int | None
    chroma_rows: int
    chroma_deleted: int
    position: int
    generation: int = field(
        metadata=counter("index_generation", "Openings of Chroma.", metric="mempalace_index_openings_total")
    )
    last_reopen: Cause | None = field(
        metadata=state("index_last_reopen", f"Why Chroma was opened last: {', '.join(Cause)}.")
    )
    foreign_writes: int = field(
        metadata=counter("foreign_writes", "Foreign changes to Chroma.", metric="mempalace_index_foreign_writes_total")
    )
    rebuilds: int
    rebuild_seconds: float | None
    failures: int
    bytes_mapped: int
    bytes_memory: int
    bytes_chroma: int

    @property
    def state(self) -> IndexState:
        """Of the part that Chroma holds."""
        return self.chroma_state

    @property
    def rows_indexed(self) -> int:
        """In Chroma."""
        return self.chroma_rows


@dataclass(frozen=True, slots=True)
class PgvectorStatistics:
    """Figures of the vectors of a palace in PostgreSQL, as of the last look at its index.

    `rows` is PostgreSQL's estimate of the vectors, None where it has none yet. `rows_live` are those of live drawers
    when they were last verified, None before. `dimension` is their length, 0 when there
    are none. `builds` counts the indexes that this process has made, and `failures` its attempts in vain since the last
    one.
    """

    mode: str
    state: IndexState
    rows: int | None
    rows_indexed: int
    rows_live: int | None
    dimension: int
    bytes_index: int
    builds: int
    build_seconds: float | None
    failures: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a part disagrees with the palace; `part` is `exact`, `chroma` or `pgvector`."""

    part: str
    chunk: int
    problem: str


S = TypeVar("S", bound=VectorStatistics, covariant=True)


@dataclass(frozen=True, slots=True)
class Reconnection(Generic[S]):
    """The figures before and after everything was closed and opened again, and what the check afterwards found."""

    before: S
    after: S
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class Serving:
    """The rows that an open client holds: the log of a palace up to `position`, without those removed by `watermark`.

    `watermark` is the tombstone watermark, a change number: a reader whose snapshot is older may miss rows.
    """

    generation: int
    palace: str
    position: int
    rows: int
    watermark: int
