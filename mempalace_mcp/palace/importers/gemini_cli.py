"""Sessions of Gemini CLI: `tmp/PROJECT/chats/session-TIME-ID.jsonl`, of earlier versions `.json`.

A line adds a message or replaces the one with its id; `$set` may replace all messages, and `$rewindTo` drops some. When
a session is resumed, the program writes its messages again, with the files that a prompt names as part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    iso_time,
    label,
    read_conversation,
    shortened,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records
from mempalace_mcp.palace.importers.json_stream import read_elements
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.typed_text import typed_text

NAME = "gemini-cli"
LARGEST = 256 * MEBIBYTE
SUBAGENT = "a sub-agent's session"

_LINES = ".jsonl"
_SPEAKERS = {"user": Speaker.USER, "gemini": Speaker.ASSISTANT}
_CONTEXT = "<session_context>"
_SUMMARY = "<state_snapshot>"
_FILES = "--- Content from referenced files ---"
_FROM_HOOKS = re.compile(r"\s*<hook_context>.*?</hook_context>", re.DOTALL)
"""What hooks told the model, before a prompt or in a part of its own. The program escapes tags within it."""

_FOLDER = re.compile(r"(?:\*\*Workspace Directories:\*\*\s*\n\s*- |I'm currently working in the directory: )([^\n]+)")


def read_gemini_cli(source: Source) -> Iterator[Document | Problem]:
    """The conversation in a file.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults, replay = LineFaults(), _Replay()
    problem: SkippedFile | None = None
    with file:
        if source.path.suffix.lower() == _LINES:
            for _, record in read_records(file, faults):
                replay.add(record)
        else:
            try:
                for document in read_elements(file):
                    replay.add_whole(document)
            except ValueError as error:
                problem = source.skipped(str(error))
    spoken = False
    if not replay.is_subagent:
        turns = replay.turns(source.include_tools)
        for each in read_conversation(source, replay.session(source.path), turns):
            spoken = True
            yield each
    if problem is not None:
        yield problem
    elif not spoken:
        yield source.skipped(SUBAGENT if replay.is_subagent else "no text")
    yield from faults.report(source.name)


@dataclass(frozen=True, slots=True)
class _Message:
    """What one side says, or nothing but what tools returned."""

    name: str
    speaker: Speaker
    text: str
    time: Instant | None
    model: str | None
    results: tuple[str, ...]


@dataclass(slots=True)
class _Replay:
    """A session as it is after the lines that were read."""

    about: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, _Message] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    """What was typed in prompts that are written with more than that, by their ids."""
    first: dict[str, Instant | None] = field(default_factory=dict)
    """When messages were written first, by their ids: they are written again with the time of that."""
    folder: str | None = None

    def add(self, record: Record) -> None:
        """Take a line in."""
        changes = record.get("$set")
        if isinstance(record.get("$rewindTo"), str):
            self._rewind(record["$rewindTo"])
        elif isinstance(changes, Mapping):
            self.about |= {key: value for key, value in changes.items() if key != "messages"}
            if isinstance(changes.get("messages"), list):
                self._replace(objects(changes, "messages"))
        elif isinstance(record.get("id"), str):
            if (message := self._message(record)) is not None:
                self.messages[message.name] = message
        else:
            self.add_whole(record)

    def add_whole(self, record: Any) -> None:
        """Take in what is said of the session as a whole; in files of earlier versions also its messages."""
        if isinstance(record, Mapping):
            self.about = {**record, **self.about, "messages": None}
            for message in filter(None, map(self._message, objects(record, "messages"))):
                self.messages[message.name] = message

    def _replace(self, records: Iterable[Json]) -> None:
        """Put these in the place of all messages. A summary of them takes nothing away, nor does a beginning."""
        messages: dict[str, _Message] = {}
        is_summary = False
        for record in records:
            is_summary = is_summary or _text(record.get("content")).lstrip().startswith(_SUMMARY)
            if (message := self._message(record)) is not None:
                messages[message.name] = message
        if is_summary:
            self.messages |= messages
        elif messages:
            self.messages = messages

    def _rewind(self, name: str) -> None:
        names = list(self.messages)
        for each in names[names.index(name) :] if name in self.messages else ():
            del self.messages[each]

    def _message(self, record: Json) -> _Message | None:
        """The message of a record, None if there is nothing in it."""
        name, speaker = label(record.get("id")), _SPEAKERS.get(string(record.get("type")))
        if name is None or speaker is None:
            return None
        text = _text(record.get("content"), is_prompt=speaker is Speaker.USER)
        if speaker is Speaker.USER:
            if self.folder is None and text.lstrip().startswith(_CONTEXT) and (found := _FOLDER.search(text)):
                self.folder = label(found[1].strip())
            if shown := _text(record.get("displayContent"), is_prompt=True).strip():
                self.typed[name] = shown
            text = typed_text(self.typed.get(name, text))
        results = tuple(_results(record))
        if not text.strip() and not results:
            return None
        known = self.messages.get(name)
        if not results and known is not None and known.speaker is speaker:
            results = known.results
        time = self.first.setdefault(name, iso_time(record.get("timestamp")))
        return _Message(name, speaker, text, time, label(record.get("model")), results)

    @property
    def is_subagent(self) -> bool:
        """Did the program itself begin the session?"""
        return self.about.get("kind") == "subagent"

    def session(self, path: Path) -> Session:
        """The session of the file at this path."""
        return Session(
            NAME,
            label(self.about.get("sessionId")) or path.stem,
            cwd=_project(path, self.about) or self.folder,
            model=next((each.model for each in self.messages.values() if each.model), None),
            title=label(self.about.get("summary")),
            started_at=iso_time(self.about.get("startTime")),
            source_format="gemini-cli-session",
        )

    def turns(self, include_tools: bool) -> Iterator[Turn]:
        """What is said, in its order."""
        for each in self.messages.values():
            metadata = {"model": each.model} if each.model else {}
            yield Turn(each.speaker, each.text, each.time, message_id=each.name, metadata=metadata)
            for number, result in enumerate(each.results if include_tools else ()):
                yield Turn(Speaker.TOOL, shortened(result), each.time, message_id=f"{each.name}:{number}")


def _text(content: Any, *, is_prompt: bool = False) -> str:
    """The text of a message, without thoughts and the files that it names; of a prompt, without what hooks told."""
    if isinstance(content, str):
        return _without_hooks(content) if is_prompt else content
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        text = part if isinstance(part, str) else string(part.get("text")) if isinstance(part, Mapping) else ""
        if text.strip() == _FILES:
            break
        if not (isinstance(part, Mapping) and part.get("thought")):
            texts.append(_without_hooks(text) if is_prompt else text)
    return "".join(texts)


def _without_hooks(text: str) -> str:
    """The text after what hooks told at its beginning; people who speak of that tag do not begin with it."""
    found = _FROM_HOOKS.match(text)
    return text if found is None else text[found.end() :]


def _results(record: Json) -> Iterator[str]:
    """What tools returned."""
    for call in objects(record, "toolCalls"):
        for result in objects(call, "result"):
            response = inner(inner(result, "functionResponse"), "response")
            text = response.get("output", response.get("error"))
            if isinstance(text, str) and text.strip():
                yield text


def _project(path: Path, about: Json) -> str | None:
    """The folder in which a session was held, as the files around it tell."""
    folder = path.parent.parent
    if path.parent.name != "chats":
        return None
    root = label(_small(folder / ".project_root").strip())
    if root is not None:
        return root
    known = inner(parsed(_small(folder.parent.parent / "projects.json")) or {}, "projects")
    for project, name in known.items():
        digest = sha256(project.encode("utf-8", "surrogatepass")).hexdigest()
        if folder.name in (name, digest) or about.get("projectHash") == digest:
            return label(project)
    return None


def _small(path: Path) -> str:
    """The text of a small file; empty if there is none."""
    try:
        file = open_file(Source(path), MEBIBYTE)
        if isinstance(file, SkippedFile):
            return ""
        with file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _recognizes(candidate: Candidate) -> bool:
    if candidate.path.suffix.lower() == _LINES:
        return any(map(_is_line, candidate.records[:20]))
    beginning = candidate.text[:4_096]
    return '"sessionId"' in beginning and '"projectHash"' in beginning and '"messages"' in candidate.text


def _is_line(record: Json) -> bool:
    """Is this a line of such a file?"""
    is_message = record.get("type") == "gemini" and "content" in record and "id" in record
    return is_message or {"sessionId", "projectHash"} <= record.keys() or not {"$set", "$rewindTo"}.isdisjoint(record)


def _places(machine: Machine) -> Iterable[Path]:
    home = machine.folder("GEMINI_CLI_HOME", machine.home)
    yield from sorted(home.glob(".gemini/tmp/*/chats"))


GEMINI_CLI = Reader(NAME, "Gemini CLI", frozenset({_LINES, ".json"}), _recognizes, read_gemini_cli, _places)
