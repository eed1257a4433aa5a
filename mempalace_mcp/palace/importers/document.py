"""What a reader yields: documents, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.core.zone import UTC_ZONE, Zone


@dataclass(frozen=True, slots=True)
class Said:
    """What a record of a transcript says, or a piece of it if it is long.

    The `key` is that of the record and the same in every file that holds it; the `digest` is of the text. What was
    queued may have been filed under the key `before`.
    """

    key: int
    digest: int
    speaker: str
    text: str
    said_at: Instant | None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One drawer to be.

    A document of a transcript is known by the keys of what was `said` in it. One of any other file is known by
    `source_file` and `key`: the key is unique within its file, empty when the file is one document, and stays when
    other parts of the file change. The content is never blank and can be stored as it is.
    """

    key: str
    room: str
    content: str
    source_file: str
    occurred_at: Instant | None
    metadata: Metadata
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or folder left out, wholly or from some point on, and why. Reasons are few, so that they can be counted.

    Where one is yielded, documents missing from the file prove nothing: what was filed from it before should stay.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedLines:
    """Lines of which something was left out or replaced, for one reason: how many, and the numbers (from 1) of the
    first few.

    Of a note it is a date that is not taken, without a line if it is in its name.
    """

    path: str
    reason: str
    count: int
    first: tuple[int, ...]


Problem = SkippedFile | SkippedLines


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read, by its real path, what its documents say of where they come from, the zone of its dates."""

    path: Path
    room: str
    zone: Zone = UTC_ZONE

    @property
    def name(self) -> str:
        """The `source_file` of its documents."""
        return str(self.path)

    def skipped(self, reason: str) -> SkippedFile:
        """The whole file is left out."""
        return SkippedFile(self.name, reason)


Importer = Callable[[Source], Iterator[Document | Problem]]
"""Reads one kind of file. An OSError may escape from it at any point."""
