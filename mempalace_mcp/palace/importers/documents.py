"""What readers yield: documents, each of which becomes a drawer, and what had to be left out of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.privacy import Passage, passages_in, shown


@dataclass(frozen=True, slots=True)
class Piece:
    """A message of a conversation, or a piece of it if it is long.

    The `key` is that of the message and the same in every file that holds it; the `digest` is of what the file says. A
    message that was queued at first may have been filed under the `queued_key`. The `original` is what the file says if
    the text leaves something of it out.
    """

    key: int
    digest: int
    speaker: str
    text: str
    time: Instant | None
    queued_key: int | None = None
    original: str | None = None

    @property
    def said(self) -> str:
        """What the file says."""
        return self.text if self.original is None else self.original


@dataclass(frozen=True, slots=True)
class Resume:
    """A place between two lines of a file that only grows, from which it may be read on.

    `offset` bytes and `line` lines come before it. The `memo` is what the reader must know of them.
    """

    offset: int
    line: int
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One drawer to be.

    A document of a conversation is known by the keys of its `pieces`. One of any other file is known by `source_file`
    and `key`: the key is unique within its file, empty when the file is one document, and stays when other parts of the
    file change. The content is never blank and can be stored as it is. Without a `wing` it belongs to that of its file.
    A document that `may_grow` is the last one of a conversation, of which nothing says that it is over. When all
    documents before one with `resume` are filed, its file may be read on from there. Of the content, `secrets` are
    masked; the `original` of a note is what its file says then.
    """

    key: str
    room: str
    content: str
    source_file: str
    occurred_at: Instant | None
    metadata: Metadata
    pieces: tuple[Piece, ...] = ()
    wing: str | None = None
    may_grow: bool = False
    resume: Resume | None = None
    secrets: int = 0
    original: str | None = None

    @property
    def said(self) -> str:
        """What the file of a note says."""
        return self.content if self.original is None else self.original


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
    """A file to read, by its real path.

    `room` is that of notes in it, `zone` that of times without one. With `include_tools`, what tools returned is read.
    With `resume`, a reader that offers such places may begin there. Secrets are masked unless `keep_secrets`; private
    passages are always left out.
    """

    path: Path
    room: str = ""
    zone: Zone = UTC_ZONE
    include_tools: bool = False
    resume: Resume | None = None
    keep_secrets: bool = False

    @property
    def name(self) -> str:
        """The `source_file` of its documents."""
        return str(self.path)

    def withheld(self, text: str) -> list[Passage]:
        """What of a text in the file is not filed."""
        return passages_in(text, keep_secrets=self.keep_secrets)

    def filed(self, text: str) -> str:
        """A text in the file as it is filed."""
        return shown(text, self.withheld(text)).text

    def skipped(self, reason: str) -> SkippedFile:
        """The whole file is left out."""
        return SkippedFile(self.name, reason)
