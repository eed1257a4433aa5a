"""Transcripts of Claude Code. Of a sub-agent the task and the report are kept, and none of the messages between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.claude_records import (
    RecordTurn,
    assistant_text,
    calls_tools,
    made_turn,
    presented_plans,
    queued_turn,
    read_queue,
    refusal_of,
    turn_of,
    user_text,
)
from mempalace_mcp.palace.importers.conversations import Exchange, IdentifiedTurn, Identities, Speaker, hashed, label
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file, unstorable
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, is_record, read_records
from mempalace_mcp.palace.importers.naming import SESSIONS, SUBAGENTS
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

_OWN_BUSINESS = ("acompact", "aprompt_suggestion")
"""How the ids of the agents begin by which the client itself sums up and suggests."""
_WARM_UP = "Warmup"


@dataclass(slots=True)
class _Round:
    """A task of a sub-agent and its report so far. One that has reported may be given another task."""

    task: RecordTurn | None
    report: list[RecordTurn] = field(default_factory=list)
    message: str | None = None
    """The id of the message that reports; each of its blocks is a record of its own."""

    def add(self, said: RecordTurn, message: str | None) -> None:
        """Take in what may be the report or a further block of it; of several messages the last one is."""
        if message is None or message != self.message:
            self.report.clear()
        self.report.append(said)
        self.message = message


@dataclass(slots=True)
class SubAgents:
    """Gathers the records of the sub-agents in one file; several may be at work at a time."""

    agents: dict[str, list[_Round]] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    """The agent of each record, where records do not name it themselves."""

    def add(self, record: Record) -> None:
        """Take in a record that has `isSidechain`."""
        rounds = self.agents.setdefault(self._agent_of(record), [])
        if record.get("isMeta") or record.get("isApiErrorMessage"):
            return
        match record:
            case {"type": "user", "message": {"content": content}} if not rounds or rounds[-1].report:
                if text := user_text(content):
                    rounds.append(_Round(made_turn(record, Speaker.TASK, text)))
            case {"type": "assistant", "message": {"content": content, **message}}:
                if not rounds:
                    rounds.append(_Round(None))
                if calls_tools(content):
                    rounds[-1].report.clear()  # what it said before it went on with its work
                elif text := assistant_text(content):
                    rounds[-1].add(made_turn(record, Speaker.REPORT, text), label(message.get("id")))

    def documents(self, source: Source, identities: Identities) -> Iterator[Document]:
        """One for each report, or several for a long one."""
        for name, rounds in self.agents.items():
            if name.startswith(_OWN_BUSINESS):
                continue
            for each in rounds:
                if not each.report or (each.task is not None and each.task.text == _WARM_UP):
                    continue
                exchange = Exchange(source, SUBAGENTS, _named(name))
                for identified in _identified(identities, each):
                    yield from exchange.add(identified)
                yield from exchange.finish()

    def _agent_of(self, record: Record) -> str:
        named = label(record.get("agentId"))
        if named is not None:
            return named
        uuid, parent = label(record.get("uuid")), label(record.get("parentUuid"))
        root = self.roots.get(parent or "", f"~{uuid or ''}" if parent is None else f"~{parent}")
        if uuid is not None:
            self.roots[uuid] = root
        return root


def identify(identities: Identities, turn: RecordTurn, queued: RecordTurn | None = None) -> IdentifiedTurn | None:
    """The turn under the name of its record, or None if the file had it before. Other versions of the program know
    records by these names, so they stay as they are."""
    identified = identities.admit(turn, _name_of(identities, turn))
    if identified is None or queued is None:
        return identified
    return replace(identified, queued_name=_name_of(identities, queued))


def _name_of(identities: Identities, turn: RecordTurn) -> str:
    if turn.message_id is not None:
        return f"record:{turn.message_id}"
    when = str(turn.time) if turn.time is not None else f"session:{turn.session_id or ''}"
    return identities.name_by_content(turn.speaker, when, turn.text)


def _identified(identities: Identities, task: _Round) -> Iterator[IdentifiedTurn]:
    turns = [*([] if task.task is None else [task.task]), *task.report]
    return filter(None, (identify(identities, turn) for turn in turns))


def _named(name: str) -> Metadata:
    return {} if name.startswith("~") else {"agent_id": name}


NAME = "claude-code"
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
    faults = LineFaults()
    with file:
        turns = _Turns(file, faults)
        spoken = False
        exchange = Exchange(source, SESSIONS)
        for identified in turns:
            spoken = True
            if exchange.is_over(identified.turn):
                yield from exchange.finish()
                exchange = Exchange(source, SESSIONS)
            yield from exchange.add(identified)
        yield from exchange.finish()
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
            for _, record in islice(read_records(file, LineFaults()), _HEAD):
                if folder := label(record.get("cwd")):
                    return Beginning(folder, label(record.get("gitBranch")))
    except OSError:
        pass  # whoever reads the file is told
    return Beginning()


@dataclass(slots=True)
class _Turns:
    """The turns of a file, one after the other; what sub-agents said is gathered beside them."""

    file: BinaryIO
    faults: LineFaults
    identities: Identities = field(default_factory=Identities)
    subagents: SubAgents = field(default_factory=SubAgents)
    is_known: bool = False
    plans: set[int] = field(default_factory=set)
    presented: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[IdentifiedTurn]:
        queue = read_queue(self.file)
        for count, (number, record) in enumerate(read_records(self.file, self.faults), 1):
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
                self.faults.add(f"{fault}, replaced by U+FFFD", number)
            identified = identify(self.identities, turn, queue.repeated.get(number))
            if identified is not None:
                yield identified

    def _turn(self, record: Record) -> RecordTurn | None:
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


def _recognizes(candidate: Candidate) -> bool:
    return any(is_record(record) and "message" in record for record in candidate.records)


def _places(machine: Machine) -> Iterable[Path]:
    yield machine.folder("CLAUDE_CONFIG_DIR", machine.home / ".claude") / "projects"
    yield machine.home / ".config" / "claude" / "projects"
    yield from machine.applications.glob("Claude/local-agent-mode-sessions/*/*/*/.claude/projects")


CLAUDE_CODE = Reader(NAME, "Claude Code", frozenset({".jsonl"}), _recognizes, read_transcript, _places)
