"""Reads transcripts of Claude Code: one document for each exchange, or several for a long one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import BinaryIO

from mempalace_mcp.palace.importers.bytestream import MEBIBYTE, open_file, unstorable
from mempalace_mcp.palace.importers.document import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.exchange import LONGEST_DOCUMENT, Exchange
from mempalace_mcp.palace.importers.identity import Identities, Named, hashed
from mempalace_mcp.palace.importers.lines import Record, Tally, is_record, read_records
from mempalace_mcp.palace.importers.queueing import read_queue
from mempalace_mcp.palace.importers.subagents import SubAgents
from mempalace_mcp.palace.importers.turns import (
    Speaker,
    Turn,
    label,
    presented_plans,
    queued_turn,
    refusal_of,
    turn_of,
)

__all__ = ["LARGEST_TRANSCRIPT", "LONGEST_DOCUMENT", "Beginning", "beginning_of", "read_transcript"]

LARGEST_TRANSCRIPT = 256 * MEBIBYTE

_HEAD = 100  # lines by which a transcript is known


def read_transcript(source: Source) -> Iterator[Document | Problem]:
    """Exchanges in the order of the file, then what sub-agents reported, then the lines left out. An exchange begins
    with the first thing the user says after an answer, and holds everything both say until the next one begins.

    A record that the file repeats counts once.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST_TRANSCRIPT)
    if isinstance(file, SkippedFile):
        yield file
        return
    tally = Tally()
    with file:
        turns = _Turns(file, tally)
        spoken = False
        exchange = Exchange(source, source.room)
        for named in turns:
            spoken = True
            if exchange.is_over(named.turn):
                yield from exchange.finish()
                exchange = Exchange(source, source.room)
            yield from exchange.add(named)
        yield from exchange.finish()
    for document in turns.subagents.documents(source, turns.identities):
        spoken = True
        yield document
    if not turns.is_known:
        yield source.skipped("not a transcript")
        return
    if not spoken:
        yield source.skipped("a sub-agent that has not reported" if turns.subagents.agents else "no text")
    yield from tally.report(source.name)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The folder where a conversation began, and the branch of the repository there, as far as the file tells."""

    folder: str | None = None
    branch: str | None = None


def beginning_of(source: Source) -> Beginning:
    """Where the conversation in a file began."""
    try:
        file = open_file(source, LARGEST_TRANSCRIPT)
        if isinstance(file, SkippedFile):
            return Beginning()
        with file:
            for _, record in islice(read_records(file, Tally()), _HEAD):
                if folder := label(record.get("cwd")):
                    return Beginning(folder, label(record.get("gitBranch")))
    except OSError:
        pass  # whoever reads the file is told
    return Beginning()


@dataclass(slots=True)
class _Turns:
    """The turns of a file, one after the other; what sub-agents said is gathered beside them."""

    file: BinaryIO
    tally: Tally
    identities: Identities = field(default_factory=Identities)
    subagents: SubAgents = field(default_factory=SubAgents)
    is_known: bool = False
    plans: set[int] = field(default_factory=set)
    presented: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Named]:
        queue = read_queue(self.file)
        for count, (number, record) in enumerate(read_records(self.file, self.tally), 1):
            self.is_known = self.is_known or is_record(record)
            if not self.is_known and count == _HEAD:
                return
            if record.get("isSidechain"):
                self.subagents.add(record)
                continue
            turn = (queued_turn(record) if number in queue.alone else None) or self._turn(record)
            if turn is None:
                continue
            fault = unstorable(turn.text)
            if fault is not None:
                self.tally.add(f"{fault}, replaced by U+FFFD", number)
            named = self.identities.admit(turn, queue.repeated.get(number))
            if named is not None:
                yield named

    def _turn(self, record: Record) -> Turn | None:
        """The turn of a record; a plan that is decided on is repeated only where it was not presented just so."""
        self.presented.update(presented_plans(record))
        turn = turn_of(record) or refusal_of(record, self.presented)
        if turn is None:
            return None
        if turn.plan and hashed(turn.plan) not in self.plans:
            self.plans.add(hashed(turn.plan))
            if turn.speaker is Speaker.USER:
                turn = replace(turn, text=f"{turn.text}\n\n{turn.plan}")
        return turn
