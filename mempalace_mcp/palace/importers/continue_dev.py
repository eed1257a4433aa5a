"""Sessions of Continue, of its extensions and its program for terminals: `~/.continue/sessions/ID.json`.

They have no times but that of the session, which only the list of all sessions beside them tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    epoch_time,
    label,
    read_conversation,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.editors import project_of
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_stream import DAMAGED
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.said import Named

NAME = "continue"
LARGEST = 128 * MEBIBYTE

_LIST = "sessions.json"
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_UNTITLED = frozenset({"New Session", "Untitled Session"})


def read_session(source: Source) -> Iterator[Document | Problem]:
    """The exchanges of a session.

    Raises:
        OSError: the file cannot be opened or read.
    """
    whole = _data(source)
    if isinstance(whole, SkippedFile):
        yield whole
        return
    found = parsed(whole)
    if found is None:
        yield source.skipped(DAMAGED)
        return
    session_id = label(found.get("sessionId")) or source.path.stem
    project, title = project_of(found.get("workspaceDirectory")), label(found.get("title"))
    session = Session(
        NAME,
        session_id,
        cwd=project.folder if project else None,
        wing=project.wing if project else None,
        model=label(found.get("chatModelTitle")),
        title=None if title in _UNTITLED else title,
        started_at=_started_at(source.path.with_name(_LIST), session_id),
        source_format="continue-session",
    )
    spoken = False
    for document in read_conversation(source, session, _turns(objects(found, "history"), source)):
        spoken = True
        yield document
    if not spoken:
        yield source.skipped("no text")


def _turns(history: Iterable[Json], source: Source) -> Iterator[Turn]:
    named = Named()
    for item in history:
        message = inner(item, "message")
        speaker, message_id = _SPEAKERS.get(string(message.get("role"))), label(message.get("id"))
        if speaker is None:
            continue
        said = [
            named.turn(
                speaker, text_of(message.get("content")), metadata={"message_id": message_id} if message_id else {}
            )
        ]
        for state in objects(item, "toolCallStates") if source.include_tools else ():
            results = "\n\n".join(string(each.get("content")) for each in objects(state, "output"))
            said.append(named.turn(Speaker.TOOL, shortened(results)))
        yield from filter(None, said)


def _started_at(path: Path, session_id: str) -> Instant | None:
    """When a session began, as the list of all sessions tells."""
    try:
        listed = _data(Source(path))
        sessions: Any = json.loads(listed) if isinstance(listed, bytes) else None
    except (OSError, ValueError, RecursionError):
        return None
    for each in sessions if isinstance(sessions, list) else ():
        if isinstance(each, dict) and each.get("sessionId") == session_id:
            created = str(each.get("dateCreated"))
            return epoch_time(int(created), 1000) if created.isdecimal() and len(created) < 20 else None
    return None


def _data(source: Source) -> bytes | SkippedFile:
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        return file
    with file:
        return file.read()


def _recognizes(candidate: Candidate) -> bool:
    path = candidate.path
    if path.parent.name == "sessions" and path.parent.parent.name == ".continue":
        return path.name != _LIST
    return '"workspaceDirectory"' in candidate.text and '"history"' in candidate.text


def _places(machine: Machine) -> Iterator[Path]:
    folder = machine.folder("CONTINUE_GLOBAL_DIR", machine.home / ".continue") / "sessions"
    yield from sorted(path for path in folder.glob("*.json") if path.name != _LIST)


CONTINUE = Reader(NAME, "Continue", frozenset({".json"}), _recognizes, read_session, _places)
