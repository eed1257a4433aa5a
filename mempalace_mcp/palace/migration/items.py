"""What a memory holds, as its reader yields it: texts, facts, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone


@dataclass(frozen=True, slots=True)
class Entry:
    """Whose diary a text is an entry of, and about what."""

    agent: str
    topic: str


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text that becomes a drawer, verbatim. `id` is the one it is known by in its memory, `other_ids` are further
    ones: of parts that were joined, for example. Names may break the palace's rules; they are mended."""

    id: str
    wing: str
    room: str
    content: str
    occurred_at: Instant | None = None
    source_file: str | None = None
    added_by: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    other_ids: tuple[str, ...] = ()
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class FactItem:
    """A fact; also one that stands for something else, which is counted as its `kind`. `source_id` is the old id of the
    drawer that it was taken from."""

    id: str
    subject: str
    predicate: str
    object: str
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    recorded_at: Instant | None = None
    confidence: float | None = None
    source_id: str | None = None
    kind: str = "facts"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that does not come, and why. Reasons are few, so that they can be counted. `is_derived` says that
    nothing is lost: its memory has computed it from what comes, or it was deleted there."""

    what: str
    reason: str
    count: int = 1
    is_derived: bool = False


Item = TextItem | FactItem | LeftOut


@dataclass(frozen=True, slots=True)
class Options:
    """How a memory is read: the wing of what says none, the zone of times that have none, a folder on a disk with room
    for snapshots of databases, and the environment and home directory in which its program looks for its files."""

    wing: str | None = None
    zone: Zone = UTC_ZONE
    scratch: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = None


class Source(Protocol):
    """Reads one kind of memory. It changes nothing there."""

    name: str
    """Of the kind, as it is stored with old ids."""

    title: str
    """Of the kind, as people know it."""

    has_unique_ids: bool
    """Is an id of this kind the same item in whatever file or folder it is?"""

    def places(self, options: Options) -> Iterator[Path]:
        """Where such a memory is, unless somebody has put it elsewhere; there need not be one."""
        ...

    def recognizes(self, path: Path) -> bool:
        """Is this file or folder such a memory? Never raises."""
        ...

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """All that it holds, in an order in which texts come before the facts that name them.

        Raises:
            PalaceError: it cannot be read any further.
        """
        ...
