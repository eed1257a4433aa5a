"""Reads transcripts of Claude Code: one document for each exchange, or several for a long one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.bytestream import MEBIBYTE, open_file, unstorable
from mempalace_mcp.palace.importers.cutting import cut
from mempalace_mcp.palace.importers.document import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.lines import Tally, read_records
from mempalace_mcp.palace.importers.turns import Speaker, Turn, is_record, label, turn_of

LARGEST_TRANSCRIPT = 256 * MEBIBYTE
LONGEST_DOCUMENT = 8_000
"""Characters of one document; a longer exchange is several, cut between turns where possible."""

_HEAD = 100  # lines by which a transcript is known


def read_transcript(source: Source) -> Iterator[Document | Problem]:
    """Exchanges in the order of the file, then the lines left out. An exchange begins with the first thing the user
    says after an answer, and holds everything both say until the next one begins.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST_TRANSCRIPT)
    if isinstance(file, SkippedFile):
        yield file
        return
    tally = Tally()
    exchange = _Exchange(source, 0)
    known = spoken = False
    with file:
        for count, (number, record) in enumerate(read_records(file, tally), 1):
            known = known or is_record(record)
            if not known and count == _HEAD:
                break
            turn = turn_of(record)
            if turn is None:
                continue
            if exchange.is_over(turn):
                yield from exchange.finish()
                exchange = _Exchange(source, exchange.number + 1)
            spoken = True
            fault = unstorable(turn.text)
            if fault is not None:
                tally.add(fault, number)
                turn = replace(turn, text="")
            yield from exchange.add(turn)
    yield from exchange.finish()
    if not known:
        yield source.skipped("not a transcript")
        return
    if not spoken:
        yield source.skipped("no text")
    yield from tally.report(source.name)


def first_working_folder(source: Source) -> str | None:
    """The folder where the conversation began, or None if the file does not tell."""
    try:
        file = open_file(source, LARGEST_TRANSCRIPT)
        if isinstance(file, SkippedFile):
            return None
        with file:
            records = islice(read_records(file, Tally()), _HEAD)
            return next(filter(None, (label(record.get("cwd")) for _, record in records)), None)
    except OSError:
        return None


@dataclass(slots=True)
class _Exchange:
    """An exchange as it is read: the turn it began with, whether it has been answered, and its unfinished part."""

    source: Source
    number: int
    part: int = 1
    opening: Turn | None = None
    is_answered: bool = False
    speaker: Speaker | None = None
    texts: list[str] = field(default_factory=list)
    length: int = 0

    def is_over(self, turn: Turn) -> bool:
        """Does this turn begin the next exchange? Number 0 is for answers whose question is in another file."""
        return turn.speaker is Speaker.USER and (self.number == 0 or self.is_answered)

    def add(self, turn: Turn) -> Iterator[Document]:
        """Take a turn in; yields the parts that are thereby complete, which no later turn changes."""
        self.opening = self.opening or turn
        self.is_answered = self.is_answered or turn.speaker is Speaker.ASSISTANT
        for piece in cut(turn.text, LONGEST_DOCUMENT):
            if not piece.strip():
                continue
            if self.length + len(piece) > LONGEST_DOCUMENT:
                yield from self.finish()
            self.texts.append(piece if turn.speaker is self.speaker else f"{turn.speaker}: {piece}")
            self.speaker = turn.speaker
            self.length += len(piece)

    def finish(self) -> Iterator[Document]:
        """The part read so far, if there is one."""
        if not self.texts or self.opening is None:
            return
        key = f"exchange-{self.number:04}#{self.part}"
        content = "\n\n".join(self.texts)
        yield Document(
            key, self.source.room, content, self.source.name, self.opening.said_at, self._metadata(self.opening, key)
        )
        self.part += 1
        self.texts, self.length, self.speaker = [], 0, None

    def _metadata(self, opening: Turn, key: str) -> Metadata:
        known = {"session_id": opening.session_id, "git_branch": opening.git_branch, "cwd": opening.cwd}
        return {"part": key, "exchange": self.number} | {name: value for name, value in known.items() if value}
