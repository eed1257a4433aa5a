"""Transcripts of Claude Code: one document for each exchange, or several for a long one.

An exchange is what the user says and everything until the user speaks again. Of a sub-agent the task and the report are
kept; its messages in between are noise to others, and one that was stopped has no report.

A transcript that has not changed is recognized without reading all of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from mempalace_mcp.core.blobs import readable_length
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.importers import files
from mempalace_mcp.palace.importers.files import (
    MEBIBYTE,
    Document,
    Problem,
    Record,
    Said,
    SkippedFile,
    Source,
    Tally,
    cut,
    fits,
    is_record,
    open_file,
    read_records,
    unstorable,
)
from mempalace_mcp.palace.importers.naming import SUBAGENTS
from mempalace_mcp.palace.importers.turns import (
    Identities,
    Named,
    Speaker,
    Turn,
    assistant_text,
    calls_tools,
    hashed,
    label,
    made_turn,
    presented_plans,
    queued_turn,
    read_queue,
    refusal_of,
    turn_of,
    user_text,
)

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


READERS = 2
"""To be raised when the readers find more in the same files: then all of them are read anew."""

_STATE_HEAD, _TAIL = 1_024, 8_192
_DIGEST_BYTES = 16


def state_of(path: Path) -> str | None:
    """Size, time of the last change, and a digest of the beginning and the end; None if that cannot be told.

    Programs append to their files or write them anew, so that either the size or the end is another one.
    """
    try:
        descriptor = files.open_regular_file(path)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            digest = blake2b(file.read(_STATE_HEAD), digest_size=_DIGEST_BYTES)
            file.seek(max(0, status.st_size - _TAIL))
            digest.update(file.read(_TAIL))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return f"{READERS}:{status.st_size}:{status.st_mtime_ns}:{digest.hexdigest()}"


_OWN_BUSINESS = ("acompact", "aprompt_suggestion")
"""How the ids of the agents begin by which the client itself sums up and suggests."""
_WARM_UP = "Warmup"


@dataclass(slots=True)
class _Round:
    """A task of a sub-agent and its report so far. One that has reported may be given another task."""

    task: Turn | None
    report: list[Turn] = field(default_factory=list)
    message: str | None = None
    """The id of the message that reports; each of its blocks is a record of its own."""

    def add(self, said: Turn, message: str | None) -> None:
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
                for named in filter(None, map(identities.admit, filter(None, (each.task, *each.report)))):
                    yield from exchange.add(named)
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


def _named(name: str) -> Metadata:
    return {} if name.startswith("~") else {"agent_id": name}


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
