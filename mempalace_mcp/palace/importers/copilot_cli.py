"""Sessions of the GitHub Copilot CLI: `session-state/ID/events.jsonl`, one event a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mempalace_mcp.palace.importers.conversations import (
    Conversation,
    Session,
    Speaker,
    Turn,
    iso_time,
    label,
    shortened,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records
from mempalace_mcp.palace.importers.json_values import inner, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

NAME = "copilot-cli"
LARGEST = 256 * MEBIBYTE

_FOLDER = "session-state"
_EVENTS = "events.jsonl"
_START, _END = "session.start", "session.shutdown"
_IN_ALL_SESSIONS = "event"
"""Events have unique ids, and keep them where another session repeats them."""
_OF_THE_EDITOR = "GitHub.copilot-chat"
_NOT_TYPED = ("skill-", "agent-", "system")
"""How the `source` of messages begins that the program sends in the user's name."""


def read_session(source: Source) -> Iterator[Document | Problem]:
    """The exchanges of a session.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    if _OF_THE_EDITOR in source.path.parts:
        yield source.skipped("a copy of a chat that the editor keeps itself")
        return
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults, spoken, last = LineFaults(), False, ""
    conversation = Conversation(source, Session(NAME, _name(source.path), source_format="copilot-events"))
    with file:
        for _, event in read_records(file, faults):
            last = string(event.get("type"))
            if last == _START:
                if inner(event, "data").get("detachedFromSpawningParentSessionId"):
                    yield source.skipped("a session that the program began itself")
                    return
                if not spoken:  # a fork repeats that of another session
                    conversation = Conversation(source, _session(event, source.path))
            for turn in _turns(event, source):
                spoken = True
                yield from conversation.add(turn)
    yield from conversation.finish(is_ended=last == _END)
    if not spoken:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _session(event: Record, path: Path) -> Session:
    data = inner(event, "data")
    context = inner(data, "context")
    return Session(
        NAME,
        label(data.get("sessionId")) or _name(path),
        cwd=label(context.get("cwd")),
        git_branch=label(context.get("branch")),
        model=label(data.get("selectedModel")),
        started_at=iso_time(data.get("startTime")),
        source_format="copilot-events",
        metadata={"cli_version": version} if (version := label(data.get("copilotVersion"))) else {},
    )


def _turns(event: Record, source: Source) -> Iterator[Turn]:
    data, kind = inner(event, "data"), event.get("type")
    if event.get("agentId") or data.get("parentToolCallId"):
        return  # a sub-agent's
    speaker, text = Speaker.ASSISTANT, string(data.get("content"))
    if kind == "user.message":
        if data.get("isAutopilotContinuation") or string(data.get("source")).startswith(_NOT_TYPED):
            return
        speaker = Speaker.USER
    elif kind == "tool.execution_complete" and source.include_tools:
        speaker, text = Speaker.TOOL, shortened(string(inner(data, "result").get("content")))
    elif kind != "assistant.message":
        return
    if text.strip():
        event_id = label(event.get("id"))
        yield Turn(speaker, text, iso_time(event.get("timestamp")), event_id, _IN_ALL_SESSIONS if event_id else None)


def _name(path: Path) -> str:
    return path.parent.name if path.name == _EVENTS else path.stem


def _recognizes(candidate: Candidate) -> bool:
    path = candidate.path
    if path.name == _EVENTS and path.parent.parent.name == _FOLDER:
        return True
    return any(each.get("type") == _START and inner(each, "data").get("sessionId") for each in candidate.records[:1])


def _places(machine: Machine) -> Iterable[Path]:
    folder = machine.folder("COPILOT_HOME", machine.home / ".copilot") / _FOLDER
    yield from sorted((*folder.glob(f"*/{_EVENTS}"), *folder.glob("*.jsonl")))


COPILOT_CLI = Reader(NAME, "GitHub Copilot CLI", frozenset({".jsonl"}), _recognizes, read_session, _places)
