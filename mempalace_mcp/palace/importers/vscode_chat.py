"""Chats in VS Code and editors made from it: one file for each, of JSON or a log of the changes to it.

Each line of a log sets, extends, cuts or deletes a part of the session. What is heavy and not read, such as the content
of attached files, is dropped while the file is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    epoch_time,
    label,
    read_conversation,
    shortened,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.editors import project_of_window, user_folders
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import NOT_JSON, LineFaults
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

NAME = "vscode-chat"
LARGEST = 256 * MEBIBYTE
OTHER_CHANGE = "a change that does not fit what stands before it"

_LOG = ".jsonl"
_OF_WINDOWS = "chatSessions"
_OF_NO_WINDOW = ("emptyWindowChatSessions", "transferredChatSessions")
_LOG_BEGINS = re.compile(r'\s*\{"kind":0,"v":\{"')
_SHOWN_TO_TOOLS = frozenset({"toolSpecificData", "resultDetails"})
_HEAVY = frozenset(
    {"variableData", "contentReferences", "codeCitations", "usedContext", "followups", "editedFileEvents", "inputState"}
    | {"pendingRequests", "result", "edits"}
)
_UNIQUE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_IN_ALL_SESSIONS = "request"
"""Requests with a unique id are known by it alone, in exports and copies of a session too."""
_OVER = (1, 2, 3)  # complete, cancelled, failed


def read_chat(source: Source) -> Iterator[Document | Problem]:
    """The exchanges of a chat.

    Raises:
        OSError: the file cannot be opened or read.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults = LineFaults()
    with file:
        found = _replayed(file, source, faults) if source.path.suffix.lower() == _LOG else _parsed(file.read(), source)
    if not isinstance(found, dict):
        yield source.skipped("JSON that is damaged or cut off")
        return
    requests, spoken = objects(found, "requests"), False
    is_ended = bool(requests) and inner(requests[-1], "modelState").get("value") in _OVER
    for document in read_conversation(
        source, _session(found, source.path), _turns(requests, source), is_ended=is_ended
    ):
        spoken = True
        yield document
    if not spoken:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _parsed(data: bytes, source: Source) -> Any:
    dropped = _HEAVY if source.include_tools else _HEAVY | _SHOWN_TO_TOOLS

    def slim(value: dict[str, Any]) -> dict[str, Any]:
        for name in dropped.intersection(value):
            del value[name]
        return value

    try:
        return json.loads(data, object_hook=slim)
    except (ValueError, RecursionError):
        return None


def _replayed(file: BinaryIO, source: Source, faults: LineFaults) -> Any:
    """The session that a log tells of."""
    log = _Log()
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        change = _parsed(line, source)
        if change is None and not line.endswith(b"\n"):
            break  # it is being written
        if not isinstance(change, dict):
            faults.add(NOT_JSON, number)
        elif not log.apply(change):
            faults.add(OTHER_CHANGE, number)
    return log.session


class _Log:
    """A session, to which changes are made."""

    def __init__(self) -> None:
        self.session: Any = None

    def apply(self, change: Json) -> bool:
        """Make a change; False if it cannot be made."""
        match change:
            case {"kind": 0, "v": dict() as whole}:
                self.session = whole
                return True
            case {"kind": 1 | 3 as kind, "k": [*path, last]}:
                return self._set(self._at(path), last, change.get("v") if kind == 1 else None)
            case {"kind": 2, "k": [*path, last]}:
                return self._extend(self._at(path), last, change)
        return False

    def _at(self, path: Iterable[Any]) -> Any:
        place = self.session
        for step in path:
            place = _child(place, step)
        return place

    def _set(self, place: Any, last: Any, value: Any) -> bool:
        if isinstance(place, dict) and isinstance(last, str):
            place[last] = value
        elif isinstance(place, list) and isinstance(last, int) and 0 <= last <= len(place):
            place[last : last + 1] = [value]
        else:
            return False
        return True

    def _extend(self, place: Any, last: Any, change: Json) -> bool:
        items = _child(place, last)
        if not isinstance(items, list):
            items = []
            if not self._set(place, last, items):
                return False
        length, added = change.get("i"), change.get("v")
        if isinstance(length, int) and 0 <= length < len(items):
            del items[length:]
        items += added if isinstance(added, list) else ()
        return True


def _child(place: Any, step: Any) -> Any:
    if isinstance(place, dict) and isinstance(step, str):
        return place.get(step)
    if isinstance(place, list) and isinstance(step, int) and 0 <= step < len(place):
        return place[step]
    return None


def _session(found: Json, path: Path) -> Session:
    project = project_of_window(path.parent.parent) if path.parent.name == _OF_WINDOWS else None
    return Session(
        NAME,
        label(found.get("sessionId")) or path.stem,
        cwd=project.folder if project else None,
        wing=project.wing if project else None,
        title=label(found.get("customTitle")),
        started_at=epoch_time(found.get("creationDate"), 1000),
        source_format="vscode-chat",
    )


def _turns(requests: Iterable[Json], source: Source) -> Iterator[Turn]:
    for request in requests:
        request_id = label(request.get("requestId"))
        session_id = _IN_ALL_SESSIONS if request_id and _UNIQUE.search(request_id) else None
        model = label(request.get("modelId"))
        metadata = {"model": model} if model else {}
        time = epoch_time(request.get("timestamp"), 1000)
        asked = string(inner(request, "message").get("text")) or string(request.get("message"))
        yield Turn(Speaker.USER, asked, time, request_id, session_id, metadata=metadata)
        number = 0
        for speaker, text in _blocks(objects(request, "response")):
            if speaker is Speaker.ASSISTANT or source.include_tools:
                message_id = f"{request_id}:{speaker}:{number}" if request_id else None
                yield Turn(speaker, text, None, message_id, session_id, metadata=metadata)
            number += speaker is Speaker.ASSISTANT


def _blocks(parts: Iterable[Json]) -> Iterator[tuple[Speaker, str]]:
    """What an answer says between the other things that it shows, and what tools returned."""
    text = ""
    for part in parts:
        kind = part.get("kind")
        if kind is None or kind in ("markdownContent", "markdownVuln"):
            text += _markdown(part if kind is None else part.get("content"))
        elif kind == "inlineReference":
            text += _reference(part)
        elif kind not in ("undoStop", "codeblockUri"):  # these are within a text
            if text.strip():
                yield Speaker.ASSISTANT, text
            text = ""
            yield from ((Speaker.TOOL, shortened(result)) for result in _results(part))
    if text.strip():
        yield Speaker.ASSISTANT, text


def _markdown(part: Any) -> str:
    value = part.get("value") if isinstance(part, dict) else part
    return string(value) or string(inner(part, "value").get("value"))


def _reference(part: Json) -> str:
    """The name of a file or symbol within a sentence."""
    what = inner(part, "inlineReference")
    path = string(what.get("path")) or string(inner(what, "uri").get("path"))
    name = string(part.get("name")) or string(what.get("name")) or unquote(path).rsplit("/", 1)[-1]
    return f"`{name}`" if name else ""


def _results(part: Json) -> Iterator[str]:
    if part.get("kind") == "toolInvocationSerialized":
        yield string(inner(inner(part, "toolSpecificData"), "terminalCommandOutput").get("text"))
        output = inner(part, "resultDetails").get("output")
        yield from (
            [output]
            if isinstance(output, str)
            else (
                string(each.get("value"))
                for each in objects(inner(part, "resultDetails"), "output")
                if each.get("isText")
            )
        )


def _recognizes(candidate: Candidate) -> bool:
    if candidate.path.parent.name in (_OF_WINDOWS, *_OF_NO_WINDOW):
        return True
    if candidate.path.suffix.lower() == _LOG:
        return _LOG_BEGINS.match(candidate.text) is not None and '"requests"' in candidate.text
    return '"responderUsername"' in candidate.text and '"requests"' in candidate.text


def _places(machine: Machine) -> Iterable[Path]:
    for user in user_folders(machine):
        yield from sorted(user.glob(f"workspaceStorage/*/{_OF_WINDOWS}"))
        for storage in (user / "globalStorage", *sorted(user.glob("profiles/*/globalStorage"))):
            yield from (storage / name for name in _OF_NO_WINDOW)


VSCODE_CHAT = Reader(NAME, "VS Code chat", frozenset({".json", _LOG}), _recognizes, read_chat, _places)
