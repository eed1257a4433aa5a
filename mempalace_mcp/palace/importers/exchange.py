"""An exchange as it is read: what the user says and all that is said until the user speaks again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mempalace_mcp.core.blobs import readable_length
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.importers.cutting import cut, fits
from mempalace_mcp.palace.importers.document import Document, Said, Source
from mempalace_mcp.palace.importers.identity import Named, hashed
from mempalace_mcp.palace.importers.turns import Speaker, Turn

LONGEST_DOCUMENT = 8_000
"""Characters of one document, those of blobs not counted; a longer exchange is several, cut between turns where
possible."""

_LARGEST = MAX_CONTENT_BYTES // 2
"""Characters of several turns in one document, blobs and all: the rest is for what takes more than a byte."""


@dataclass(slots=True)
class Exchange:
    """The turns of an exchange that are not in a document yet, and what is known of it as a whole."""

    source: Source
    room: str
    more: Metadata = field(default_factory=dict)
    is_answered: bool = False
    opening: Turn | None = None
    said: list[Said] = field(default_factory=list)
    length: int = 0
    """Characters that are in no blob."""
    size: int = 0
    """All characters."""

    def is_over(self, turn: Turn) -> bool:
        """Does this turn begin the next exchange? What has no question, as its file was cut, ends with the next."""
        if turn.speaker is not Speaker.USER or turn.goes_on or self.opening is None:
            return False
        return self.is_answered or self.opening.speaker is not Speaker.USER

    def add(self, named: Named) -> Iterator[Document]:
        """Take a turn in; yields the parts that are thereby complete, which no later turn changes."""
        turn, name = named.turn, named.name
        if named.changed:
            if self._replace(hashed(name, "0"), turn.text):
                return
            name = f"{name}:{hashed(turn.text)}"
        self.opening = self.opening or turn
        self.is_answered = self.is_answered or turn.speaker is Speaker.ASSISTANT
        for number, piece in enumerate(cut(turn.text, LONGEST_DOCUMENT)):
            if not piece.strip():
                continue
            length = readable_length(piece)
            if self.length + length > LONGEST_DOCUMENT or self.size + len(piece) > _LARGEST:
                yield from self.finish()
            key = hashed(name, str(number))
            before = hashed(named.before, str(number)) if named.before is not None else None
            self.said.append(Said(key, hashed(piece), turn.speaker, piece, turn.said_at, before))
            self.length += length
            self.size += len(piece)

    def finish(self) -> Iterator[Document]:
        """The part read so far, if there is one."""
        if not self.said or self.opening is None:
            return
        yield Document(
            key=f"{self.said[0].key & (1 << 64) - 1:016x}",
            room=self.room,
            content=rendered(self.said),
            source_file=self.source.name,
            occurred_at=self.opening.said_at,
            metadata=self._metadata(self.opening),
            said=tuple(self.said),
        )
        self.said, self.length, self.size = [], 0, 0

    def _replace(self, key: int, text: str) -> bool:
        """Let a turn that was written again at greater length take the place of its shorter self."""
        for position, said in enumerate(self.said):
            if said.key == key and text.startswith(said.text) and fits(text, LONGEST_DOCUMENT):
                self.said[position] = Said(key, hashed(text), said.speaker, text, said.said_at)
                self.length += readable_length(text) - readable_length(said.text)
                self.size += len(text) - len(said.text)
                return True
        return False

    def _metadata(self, opening: Turn) -> Metadata:
        known = {
            "session_id": opening.session_id,
            "git_branch": opening.git_branch,
            "cwd": opening.cwd,
            "record": opening.record,
        }
        return {name: value for name, value in known.items() if value} | dict(self.more)


def rendered(said: Sequence[Said], after: str | None = None) -> str:
    """The text of a drawer: each side named when it begins to speak, `after` being who spoke before."""
    texts = []
    for each in said:
        texts.append(each.text if each.speaker == after else f"{each.speaker}: {each.text}")
        after = each.speaker
    return "\n\n".join(texts)
