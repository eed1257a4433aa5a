"""Chats with Aider: `.aider.chat.history.md` at the root of a repository, one file for all its sessions.

A session begins with `# aider chat started at …`. Lines of the user begin with `#### `, those of the program with `> `,
and both end with two spaces; by these they are told from headings and quotations in answers. There are no ids, and no
times but that of the session.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mempalace_mcp.palace.importers.conversations import Conversation, Session, Speaker, iso_time, label
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.naming import wing_of
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.said import Named

NAME = "aider"
FILE = ".aider.chat.history.md"
LARGEST = 256 * MEBIBYTE

_START = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*")
_USER, _PROGRAM, _END = "#### ", "> ", "  "
_MODEL = re.compile(r"> (?:Main model|Model): (.+?) with .* edit format")
_VERSION = re.compile(r"> Aider v(\S+)")
_COMMAND = re.compile(r"[/!]")
_TALKING = re.compile(r"/(?:ask|code|architect|context|help)\s+(.+)", re.DOTALL)
"""Commands that hold a message, which the program writes once more by itself."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A message as it stands in the file."""

    speaker: Speaker
    text: str


@dataclass(slots=True)
class _Part:
    """A session in the file: when it began, what the program told then, and the lines that follow."""

    started: str | None
    model: str | None = None
    version: str | None = None
    said: Sequence[_Said] = ()


def read_chat(source: Source) -> Iterator[Document | Problem]:
    """The exchanges of all sessions in a file.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    spoken = False
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="\n") as lines:
        parts = _parts(lines)
        part = next(parts, None)
        while part is not None:
            following = next(parts, None)
            for document in _documents(source, part, is_ended=following is not None):
                spoken = True
                yield document
            part = following
    if not spoken:
        yield source.skipped("no text")


def _documents(source: Source, part: _Part, *, is_ended: bool) -> Iterator[Document]:
    folder = source.path.parent if source.path.name == FILE else None
    session = Session(
        NAME,
        part.started or "unknown",
        cwd=str(folder) if folder else None,
        wing=wing_of(folder) if folder else None,
        model=label(part.model),
        started_at=iso_time(part.started, source.zone),
        source_format="aider-history",
        metadata={"cli_version": part.version} if part.version else {},
    )
    conversation, named = Conversation(source, session), Named()
    for said in _without_commands(part.said):
        turn = named.turn(said.speaker, said.text)
        if turn is not None:
            yield from conversation.add(turn)
    yield from conversation.finish(is_ended=is_ended)


def _parts(lines: Iterable[str]) -> Iterator[_Part]:
    """The sessions, one after the other."""
    part, block = _Part(None), _Block()
    for line in lines:
        line = line.rstrip("\r\n")
        start = _START.fullmatch(line)
        if start:
            part.said = block.take()
            yield part
            part, block = _Part(start[1]), _Block()
            continue
        block.add(line)
        if found := _MODEL.match(line):
            part.model = part.model or found[1]
        elif found := _VERSION.match(line):
            part.version = part.version or found[1]
    part.said = block.take()
    yield part


@dataclass(slots=True)
class _Block:
    """What is said in a session, and the lines of the side that speaks. At first all is said by the program."""

    speaker: Speaker = Speaker.NOBODY
    lines: list[str] = field(default_factory=list)
    said: list[_Said] = field(default_factory=list)
    has_begun: bool = False

    def add(self, line: str) -> None:
        """Take a line in."""
        is_marked = line.endswith(_END)
        if is_marked and line.startswith(_USER):
            self._turn_to(Speaker.USER)
            self.has_begun = True
            self.lines.append(line[len(_USER) : -len(_END)])
        elif is_marked and line.startswith(_PROGRAM):
            self._turn_to(Speaker.NOBODY)
        elif self.has_begun:
            if self.speaker is not Speaker.ASSISTANT and line:
                self._turn_to(Speaker.ASSISTANT)
            if self.speaker is Speaker.ASSISTANT:
                self.lines.append(line)
            elif not line:
                self._turn_to(Speaker.NOBODY)

    def take(self) -> list[_Said]:
        """All that was said, at the end of the session."""
        self._turn_to(Speaker.NOBODY)
        return self.said

    def _turn_to(self, speaker: Speaker) -> None:
        if speaker is self.speaker:
            return
        text = "\n".join(self.lines).strip()
        if text and self.speaker is not Speaker.NOBODY:
            self.said.append(_Said(self.speaker, text))
        self.speaker, self.lines = speaker, []


def _without_commands(said: Iterable[_Said]) -> Iterator[_Said]:
    """The messages without the commands to the program; one that holds a message counts, unless it is repeated."""
    held: _Said | None = None
    for each in said:
        if held is not None and (each.speaker is not Speaker.USER or each.text.split() != held.text.split()):
            yield held
        held = None
        if each.speaker is Speaker.USER and _COMMAND.match(each.text):
            talking = _TALKING.fullmatch(each.text)
            held = _Said(Speaker.USER, talking[1]) if talking else None
        elif each.text != "<blank>":
            yield each
    if held is not None:
        yield held


def _recognizes(candidate: Candidate) -> bool:
    path = candidate.path
    if path.name == FILE:
        return True
    return NAME in path.name.lower() and any(map(_START.fullmatch, candidate.text.split("\n")))


def _places(machine: Machine) -> Iterable[Path]:
    yield machine.folder("AIDER_CHAT_HISTORY_FILE", machine.home / FILE)


AIDER = Reader(NAME, "Aider", frozenset({".md"}), _recognizes, read_chat, _places, frozenset({FILE}))
