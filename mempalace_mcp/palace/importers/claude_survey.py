"""A first pass over a transcript of Claude Code, for what stands further on: the title, the fate of queued prompts, and
the branch that the session ends with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from mempalace_mcp.core.text import excerpt
from mempalace_mcp.palace.importers.claude_records import RecordTurn, queued_turn, turn_of, user_text
from mempalace_mcp.palace.importers.conversations import Speaker, label
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records

NOISE = frozenset(
    {b"api-request", b"api-request-blob", b"api-request-shape", b"atis-latch", b"cost-state", b"tools-used", b"mode"}
    | {b"file-history-snapshot", b"file-history-delta", b"progress", b"last-prompt", b"permission-mode"}
)
"""Types of records without turns. They make up most of a file, and are not parsed."""

_LONGEST_TITLE = 200
_TITLES = {"custom-title": "customTitle", "ai-title": "aiTitle", "summary": "summary"}
"""The fields that hold titles, the best one first."""

_ABSORBED = (None, "absorbed_mid_turn")
"""Why a prompt is removed from the queue that goes to the assistant; older versions give no reason."""

_SHELL = re.compile(r"\s*<bash-input>(.*?)</bash-input>", re.DOTALL)
_COMMAND = re.compile(r"/[A-Za-z][\w:-]*(?:\s|\Z)")


@dataclass(slots=True)
class Survey:
    """The result of the first pass. Lines are given by their numbers.

    `alone` are lines with queued prompts that no record repeats. `repeated` are queued prompts, by the lines of the
    records that repeat them. `superseded` are lines with attachments of a queued prompt that later became a record.
    """

    alone: frozenset[int] = frozenset()
    repeated: Mapping[int, RecordTurn] = field(default_factory=dict)
    superseded: frozenset[int] = frozenset()
    title: str | None = None
    tree: Tree = field(default_factory=lambda: Tree())


def survey(file: BinaryIO, before: int = 0) -> Survey:
    """Read a file from its place, before which there are so many lines, to its end, and return to that place.

    Raises:
        OSError: the file cannot be read on.
    """
    start = file.tell()
    queue, titles, tree = _Queue(), _Titles(), Tree()
    for number, record in read_records(file, LineFaults(), NOISE, before):
        tree.add(record)
        if record.get("isSidechain"):
            continue
        queue.add(number, record)
        titles.add(record)
    file.seek(start)
    return Survey(frozenset(queue.alone()), queue.repeated, frozenset(queue.superseded), titles.best(tree), tree)


@dataclass(slots=True)
class _Queue:
    """Follows the queue of prompts.

    A prompt that the assistant took in at work counts. One that is popped or cancelled went back to the user, and does
    not. Commands of the client and of the shell were no prompts.
    """

    waiting: dict[int, RecordTurn] = field(default_factory=dict)
    repeated: dict[int, RecordTurn] = field(default_factory=dict)
    superseded: set[int] = field(default_factory=set)
    _taken: set[int] = field(default_factory=set)
    _attached: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, record: Record) -> None:
        if record.get("type") == "queue-operation":
            self._operate(number, record)
            return
        is_attachment = record.get("type") == "attachment"
        if not (self.waiting or is_attachment or record.get("promptSource") == "queued"):
            return
        turn = turn_of(record)
        if turn is None:
            self._drop_command(record)
        if turn is None or turn.speaker is not Speaker.USER:
            return
        self._match(number, turn)
        if is_attachment:
            self._attached[turn.text] = number
        elif record.get("promptSource") == "queued" and (attached := self._attached.pop(turn.text, None)):
            self.superseded.add(attached)

    def alone(self) -> list[int]:
        """The lines of prompts that no record repeated."""
        return [line for line, turn in self.waiting.items() if not _COMMAND.match(turn.text)]

    def _operate(self, number: int, record: Record) -> None:
        if (queued := queued_turn(record)) is not None:
            self.waiting[number] = queued
        elif record.get("operation") == "remove":
            self._remove(record)
        elif record.get("operation") == "popAll":
            self.waiting = {line: turn for line, turn in self.waiting.items() if line in self._taken}

    def _remove(self, record: Record) -> None:
        """Older versions do not say which prompt is removed: the first one."""
        content = record.get("content")
        text = user_text(content) if isinstance(content, str) else None
        waiting = (line for line in self.waiting if line not in self._taken)
        line = next((line for line in waiting if text is None or self.waiting[line].text == text), None)
        if line is not None and record.get("reason") in _ABSORBED:
            self._taken.add(line)
        elif line is not None:
            del self.waiting[line]

    def _drop_command(self, record: Record) -> None:
        """Remove what the user typed for the shell from the queue."""
        match record:
            case {"type": "user", "message": {"content": str(content)}} if command := _SHELL.match(content):
                typed = command.group(1).strip()
                line = next((line for line, turn in self.waiting.items() if turn.text == typed), None)
                self.waiting.pop(line or 0, None)
            case _:
                pass

    def _match(self, number: int, turn: RecordTurn) -> None:
        """Find what was queued among the lines of a turn, which may hold several prompts."""
        lines = f"\n{turn.text}\n"
        for line in [line for line, queued in self.waiting.items() if f"\n{queued.text}\n" in lines]:
            lines = lines.replace(f"\n{self.waiting[line].text}\n", "\n", 1)
            queued = self.waiting.pop(line)
            if queued.text == turn.text:
                self.repeated[number] = queued


@dataclass(slots=True)
class _Titles:
    """The titles in a file. A summary may belong to another session: then its leaf is not in the file."""

    found: dict[str, str] = field(default_factory=dict)
    _leaf: str | None = None

    def add(self, record: Record) -> None:
        kind = record.get("type")
        if isinstance(kind, str) and kind in _TITLES and (title := label(record.get(_TITLES[kind]))):
            self.found[kind] = excerpt(title, _LONGEST_TITLE)
            if kind == "summary":
                self._leaf = label(record.get("leafUuid"))

    def best(self, tree: Tree) -> str | None:
        """The best title; None if there is none."""
        if self._leaf is None or not tree.holds(self._leaf):
            self.found.pop("summary", None)
        return next((self.found[kind] for kind in _TITLES if kind in self.found), None)


@dataclass(slots=True)
class Tree:
    """The records of a file, each with the one that it follows. It holds two numbers for each."""

    parents: dict[int, int | None] = field(default_factory=dict)
    _leaf: int | None = None
    _path: set[int] | None = None
    _known: dict[int, bool] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add a record. At the boundary of a compaction, another field names the record before it. No session ends with
        a record of a sub-agent, but what follows one is still on the branch."""
        uuid = label(record.get("uuid"))
        if uuid is None:
            return
        parent = label(record.get("parentUuid")) or label(record.get("logicalParentUuid"))
        node = hash(uuid)
        self.parents.setdefault(node, None if parent is None else hash(parent))
        if record.get("type") in ("user", "assistant") and not record.get("isSidechain"):
            self._leaf = node

    def holds(self, uuid: str) -> bool:
        """Is this record in the file?"""
        return hash(uuid) in self.parents

    def is_left_for(self, uuid: str | None, other: str | None) -> bool:
        """Did the user go back to a point before the first record to go on with the other one? Where the user goes
        later makes no difference, unless the session ends with the branch of the first one."""
        if uuid is None or other is None or hash(uuid) in self._active():
            return False
        before = set(self._line_of(self.parents.get(hash(uuid))))
        node = next((node for node in self._line_of(hash(other)) if node in before or node == hash(uuid)), None)
        return node is not None and node != hash(uuid)

    def is_abandoned(self, uuid: str | None) -> bool:
        """Did the user go back to a point before this prompt? Then the prompt follows a record of the branch that the
        session ends with, but is not on that branch."""
        if uuid is None:
            return False
        return hash(uuid) not in self._active() and self._joins(hash(uuid))

    def _joins(self, start: int) -> bool:
        """Does the line of a record lead to the branch that the session ends with? Each record is asked once: the line
        of a large file that lacks a record is long, and never gets there."""
        walked: list[int] = []
        answer = False
        for node in self._line_of(start):
            if node in self._active() or node in self._known:
                answer = self._known.get(node, True)
                break
            walked.append(node)
        self._known.update(dict.fromkeys(walked, answer))
        return answer

    def _line_of(self, node: int | None) -> Iterator[int]:
        """The record and those before it, as far as the file holds them."""
        seen: set[int] = set()
        while node is not None and node not in seen:
            seen.add(node)
            yield node
            node = self.parents.get(node)

    def _active(self) -> set[int]:
        """The branch that the session ends with."""
        if self._path is None:
            self._path = set(self._line_of(self._leaf))
        return self._path
