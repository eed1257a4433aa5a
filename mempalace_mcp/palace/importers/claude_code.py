"""Transcripts of Claude Code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from mempalace_mcp.palace.importers.claude_records import (
    RecordTurn,
    ends_turn,
    identify,
    presented_plans,
    queued_turn,
    refusal_of,
    tool_turn,
    turn_of,
)
from mempalace_mcp.palace.importers.claude_subagents import SubAgents
from mempalace_mcp.palace.importers.claude_survey import NOISE, Survey, survey
from mempalace_mcp.palace.importers.conversations import (
    Exchange,
    IdentifiedTurn,
    Identities,
    Speaker,
    Turn,
    hashed,
    label,
    title_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, Resume, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file, unstorable
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, is_record, read_records
from mempalace_mcp.palace.importers.naming import SESSIONS
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

NAME = "claude-code"
LARGEST_TRANSCRIPT = 2048 * MEBIBYTE

_HEAD = 100  # lines by which a transcript is known


def read_transcript(source: Source) -> Iterator[Document | Problem]:
    """The exchanges in the order of the file, then the reports of sub-agents, then the lines that were left out.

    A record that the file repeats counts once. With `source.resume`, reading begins there.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST_TRANSCRIPT)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults = LineFaults()
    resume = source.resume or Resume(0, 0)
    with file:
        file.seek(resume.offset)
        turns = _Turns(file, faults, survey(file, resume.line), source.include_tools, resume)
        spoken = turns.is_known = resume.offset > 0
        exchange = turns.next_exchange(source, None)
        for identified in turns:
            if turns.is_taken_back(exchange, identified.turn):
                exchange = turns.next_exchange(source, identified.turn)
            elif exchange.opening is None or exchange.is_over(identified.turn):
                yield from exchange.finish()
                exchange = turns.next_exchange(source, identified.turn)
            spoken = True
            yield from exchange.add(identified)
        yield from (replace(each, may_grow=not turns.is_ended) for each in exchange.finish())
    for document in turns.subagents.documents(source, turns.identities):
        spoken = True
        yield document
    if not turns.is_known:
        yield source.skipped("not a transcript")
        return
    if not spoken:
        yield source.skipped("a sub-agent that has not reported" if turns.subagents.agents else "no text")
    yield from faults.report(source.name)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The folder where a conversation began, and the branch of the repository there; None if the file names none."""

    folder: str | None = None
    branch: str | None = None


def beginning_of(source: Source) -> Beginning:
    """Where the conversation in a file began."""
    try:
        file = open_file(source, LARGEST_TRANSCRIPT)
        if isinstance(file, SkippedFile):
            return Beginning()
        with file:
            for _, record in islice(read_records(file, LineFaults()), _HEAD):
                if folder := label(record.get("cwd")):
                    return Beginning(folder, label(record.get("gitBranch")))
    except OSError:
        pass  # reported when the file is read
    return Beginning()


@dataclass(slots=True)
class _Turns:
    """Reads the turns of a file in order. Records of sub-agents are collected in `subagents`."""

    file: BinaryIO
    faults: LineFaults
    survey: Survey
    include_tools: bool = False
    last: Resume = field(default_factory=lambda: Resume(0, 0))
    """Where the last record that said something ends."""
    is_ended: bool = False
    """Does the last record say that the assistant is done?"""
    identities: Identities = field(default_factory=Identities)
    subagents: SubAgents = field(default_factory=SubAgents)
    is_known: bool = False
    plans: set[int] = field(default_factory=set)
    presented: set[str] = field(default_factory=set)
    _number: int = 0
    _are_named: bool = True

    def __post_init__(self) -> None:
        self.survey.title = self.survey.title or self.last.memo or None

    def __iter__(self) -> Iterator[IdentifiedTurn]:
        for count, (number, record) in enumerate(read_records(self.file, self.faults, NOISE, self.last.line), 1):
            self.is_known = self.is_known or is_record(record)
            if not self.is_known and count == _HEAD:
                return
            if record.get("isSidechain"):
                self.subagents.add(record)
                continue
            turn = self._turn(number, record)
            is_ended = self.is_ended and (turn is None or turn.speaker is not Speaker.USER)
            self.is_ended = ends_turn(record, is_ended)
            if turn is None:
                continue
            self._number = number
            self._are_named = self._are_named and turn.message_id is not None
            fault = unstorable(turn.text)
            if fault is not None:
                self.faults.add(f"{fault}, replaced by U+FFFD", number)
            identified = identify(self.identities, turn, self.survey.repeated.get(number))
            if identified is not None:
                yield identified
            self.last = Resume(self.file.tell(), number)

    def is_taken_back(self, exchange: Exchange, turn: Turn) -> bool:
        """Did the user take the prompt of the exchange back before it was answered, to type this turn instead?"""
        opening = exchange.opening
        return (
            opening is not None
            and opening.speaker is turn.speaker is Speaker.USER
            and not (exchange.is_answered or turn.goes_on)
            and self.survey.tree.is_left_for(opening.message_id, turn.message_id)
        )

    def next_exchange(self, source: Source, opening: Turn | None) -> Exchange:
        """The exchange that this turn opens. A session without a title gets the first words of its first prompt."""
        metadata: dict[str, Any] = {"agent": NAME}
        if self.survey.title is None and opening is not None and opening.speaker is Speaker.USER:
            self.survey.title = title_of(source.filed(opening.text))
        if self.survey.title is not None:
            metadata["title"] = self.survey.title = source.filed(self.survey.title)
        if opening is not None and self.survey.tree.is_abandoned(opening.message_id):
            metadata["branch"] = "abandoned"
        return Exchange(source, SESSIONS, metadata, resume=self._resume() if opening is not None else None)

    def _resume(self) -> Resume | None:
        """The place before the current turn, or None if reading cannot begin there.

        Messages without ids are numbered from the beginning of the file, and a prompt that is still queued has no id. A
        task of a sub-agent may have its report further on.
        """
        is_apart = 0 < self.last.line < self._number
        if not is_apart or not self._are_named or self.subagents.agents:
            return None
        return replace(self.last, memo=self.survey.title or "")

    def _turn(self, number: int, record: Record) -> RecordTurn | None:
        """The turn of a record. A plan in a decision is left out if the assistant presented the same text before."""
        if number in self.survey.superseded:
            return None
        if number in self.survey.alone and (queued := queued_turn(record)) is not None:
            return queued
        self.presented.update(presented_plans(record))
        turn = turn_of(record) or refusal_of(record, self.presented)
        if turn is None and self.include_tools:
            return tool_turn(record)
        if turn is None:
            return None
        if turn.plan and hashed(turn.plan) not in self.plans:
            self.plans.add(hashed(turn.plan))
            if turn.speaker is Speaker.USER:
                turn = replace(turn, text=f"{turn.text}\n\n{turn.plan}")
        return turn


def _recognizes(candidate: Candidate) -> bool:
    return any(is_record(record) and "message" in record for record in candidate.records)


def _places(machine: Machine) -> Iterable[Path]:
    yield machine.folder("CLAUDE_CONFIG_DIR", machine.home / ".claude") / "projects"
    yield machine.home / ".config" / "claude" / "projects"
    yield from machine.applications.glob("Claude/local-agent-mode-sessions/*/*/*/.claude/projects")


CLAUDE_CODE = Reader(NAME, "Claude Code", frozenset({".jsonl"}), _recognizes, read_transcript, _places)
