"""Sessions of OpenCode: its database, `opencode.db`, and the files in which it kept them before, `storage/**.json`.

A session has messages, and a message has parts. Version 2 keeps the parts in the message, in tables of its own, and
copies the sessions of version 1 once; those that version 1 makes later are in the old tables alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mempalace_mcp.core.foreign_database import ForeignDatabase
from mempalace_mcp.palace.importers.conversations import (
    Conversation,
    Session,
    Speaker,
    Turn,
    epoch_time,
    label,
    shortened,
)
from mempalace_mcp.palace.importers.databases import read_database
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

NAME = "opencode"
DATABASE = ".db"
SUBAGENT = "a sub-agent's session"
DAMAGED = "a message that is damaged"
LARGEST = 64 * MEBIBYTE

_MILLISECONDS = 1_000
_UNTITLED = re.compile(r"(?:New|Child) session - \d{4}-\d\d-\d\d")
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_TABLES = (b"CREATE TABLE `message`", b"CREATE TABLE `part`")
_SESSION_FIELDS = ("id", "parent_id", "directory", "title", "time_created")


@dataclass(frozen=True, slots=True)
class _Message:
    """A message with its parts. Unless it is `complete`, more of it may come."""

    name: str
    speaker: Speaker
    time: Any
    model: str | None
    parts: Sequence[Json]
    is_complete: bool


def read_opencode(source: Source) -> Iterator[Document | Problem]:
    """The sessions in a database, or the one in a file.

    Raises:
        OSError: the file cannot be opened or read.
    """
    if source.path.suffix.lower() == DATABASE:
        yield from read_database(source, _read_sessions)
    else:
        yield from _read_session_file(source)


def _read_sessions(source: Source, database: ForeignDatabase) -> Iterator[Document | Problem]:
    faults, spoken = LineFaults(), False
    for session, messages in _conversations(database, faults):
        for document in _read(source, session, messages):
            spoken = True
            yield document
    if not spoken:
        yield source.skipped("no conversations")
    yield from faults.report(source.name)


def _conversations(database: ForeignDatabase, faults: LineFaults) -> Iterator[tuple[Json, Iterator[_Message]]]:
    """Each session once, of the latest version that has it."""
    tables = database.tables()
    is_later = "session_message" in tables
    later = _sessions(database, "session_v2") if "session_v2" in tables and is_later else []
    for session in later:
        yield session, _later_messages(database, session["id"], faults)
    known = {session["id"] for session in later}
    for session in _sessions(database, "session") if "session" in tables else ():
        if session["id"] not in known:
            earlier = _messages(database, session["id"], faults) if {"message", "part"} <= tables else iter(())
            yield session, chain(earlier, _later_messages(database, session["id"], faults) if is_later else ())


def _sessions(database: ForeignDatabase, table: str) -> list[Json]:
    """The sessions in a table that a user began."""
    columns = [name for name in _SESSION_FIELDS if name in database.columns(table)]
    rows = database.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
    sessions = [dict(zip(columns, row, strict=True)) for row in rows]
    return [each for each in sessions if isinstance(each.get("id"), str) and not each.get("parent_id")]


def _messages(database: ForeignDatabase, session_id: str, faults: LineFaults) -> Iterator[_Message]:
    """The messages of a session of version 1."""
    rows = list(database.rows("SELECT id, data FROM message WHERE session_id = ? ORDER BY id", (session_id,)))
    for number, (name, data) in enumerate(rows, 1):
        about = parsed(data)
        if about is None or not isinstance(name, str):
            faults.add(DAMAGED, number)
            continue
        parts = [
            parsed(part) for (part,) in database.rows("SELECT data FROM part WHERE message_id = ? ORDER BY id", (name,))
        ]
        if None in parts:
            faults.add(DAMAGED, number)
        message = _message(name, about, [part for part in parts if part is not None])
        if message is not None:
            yield message


def _message(name: str, about: Json, parts: Sequence[Json]) -> _Message | None:
    """A message of version 1; None if nobody said it, as is so of summaries."""
    speaker = _SPEAKERS.get(string(about.get("role")))
    if speaker is None or about.get("summary") is True:
        return None
    time = inner(about, "time")
    model = label(about.get("modelID")) or label(inner(about, "model").get("modelID"))
    is_complete = time.get("completed") is not None and about.get("finish") != "tool-calls"
    return _Message(name, speaker, time.get("created"), model, parts, is_complete)


def _later_messages(database: ForeignDatabase, session_id: str, faults: LineFaults) -> Iterator[_Message]:
    """The messages of a session of version 2."""
    sql = "SELECT id, type, time_created, data FROM session_message WHERE session_id = ? ORDER BY seq, id"
    for number, (name, kind, time, data) in enumerate(list(database.rows(sql, (session_id,))), 1):
        about = parsed(data)
        speaker = _SPEAKERS.get(string(kind))
        if about is None or not isinstance(name, str):
            faults.add(DAMAGED, number)
        elif speaker is not None:
            parts = [{"type": "text", "text": about.get("text")}, *objects(about, "content")]
            created = inner(about, "time").get("created", time)
            is_complete = inner(about, "time").get("completed") is not None
            yield _Message(name, speaker, created, label(inner(about, "model").get("id")), parts, is_complete)


def _read(source: Source, about: Json, messages: Iterable[_Message]) -> Iterator[Document]:
    title = label(about.get("title"))
    session = Session(
        NAME,
        about["id"],
        cwd=label(about.get("directory")),
        title=None if title is None or _UNTITLED.match(title) else title,
        started_at=epoch_time(about.get("time_created"), _MILLISECONDS),
        source_format="opencode",
    )
    conversation, is_ended = Conversation(source, session), False
    for message in messages:
        is_ended = message.is_complete and message.speaker is Speaker.ASSISTANT
        for turn in _turns(message, source):
            yield from conversation.add(turn)
    yield from conversation.finish(is_ended=is_ended)


def _turns(message: _Message, source: Source) -> Iterator[Turn]:
    """What a message says, and what tools returned meanwhile."""
    time = epoch_time(message.time, _MILLISECONDS)
    texts = [string(part.get("text")) for part in message.parts if _is_said(part)]
    metadata = {"model": message.model} if message.model and message.speaker is Speaker.ASSISTANT else {}
    text = "\n\n".join(filter(None, (each.strip() for each in texts)))
    yield Turn(message.speaker, text, time, message_id=message.name, metadata=metadata)
    for number, part in enumerate(message.parts if source.include_tools else ()):
        if part.get("type") == "tool" and (output := _output(part)):
            yield Turn(Speaker.TOOL, shortened(output), time, message_id=f"{message.name}:{number}")


def _is_said(part: Json) -> bool:
    return part.get("type") == "text" and not (part.get("synthetic") or part.get("ignored"))


def _output(part: Json) -> str:
    """What a tool returned."""
    state = inner(part, "state")
    texts = [string(each.get("text")) for each in objects(state, "content")]
    return string(state.get("output")) or "\n".join(filter(None, texts))


def _read_session_file(source: Source) -> Iterator[Document | Problem]:
    """The session in `storage/session/PROJECT/ID.json`, whose messages and their parts lie beside it."""
    about = _object(source.path)
    storage = next((folder.parent for folder in source.path.parents if folder.name == "session"), None)
    if about is None or storage is None or not isinstance(about.get("id"), str):
        yield source.skipped("a session that is damaged, or without its messages")
        return
    if about.get("parentID"):
        yield source.skipped(SUBAGENT)
        return
    faults, spoken = LineFaults(), False
    known = {**about, "time_created": inner(about, "time").get("created")}
    for document in _read(source, known, _messages_in(storage, about["id"], faults)):
        spoken = True
        yield document
    if not spoken:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _messages_in(storage: Path, session_id: str, faults: LineFaults) -> Iterator[_Message]:
    for number, path in enumerate(_files_in(storage / "message", session_id), 1):
        about = _object(path)
        parts = [_object(part) for part in _files_in(storage / "part", path.stem)]
        if about is None or None in parts:
            faults.add(DAMAGED, number)
        message = None if about is None else _message(path.stem, about, [part for part in parts if part is not None])
        if message is not None:
            yield message


def _files_in(folder: Path, name: str) -> list[Path]:
    """The files in a folder's folder of that name, which must be one name, by their names."""
    return sorted((folder / name).glob("*.json")) if Path(name).name == name else []


def _object(path: Path) -> Json | None:
    try:
        file = open_file(Source(path), LARGEST)
        if isinstance(file, SkippedFile):
            return None
        with file:
            return parsed(file.read())
    except OSError:
        return None


def _recognizes(candidate: Candidate) -> bool:
    if candidate.path.suffix.lower() == DATABASE:
        is_named = candidate.path.name.startswith(NAME)
        return candidate.is_database and (is_named or all(table in candidate.head for table in _TABLES))
    if not candidate.path.name.startswith("ses_") or "session" not in candidate.path.parts[:-1]:
        return False
    about = parsed(candidate.head)
    return isinstance(about, Mapping) and {"id", "projectID", "time"} <= about.keys()


def _places(machine: Machine) -> Iterable[Path]:
    home = machine.data / "opencode"
    named = machine.environment.get("OPENCODE_DB")
    if named:
        yield home / Path(named).expanduser()
    yield from sorted(home.glob("opencode*.db"))
    yield home / "storage" / "session"


OPENCODE = Reader(NAME, "OpenCode", frozenset({DATABASE, ".json"}), _recognizes, read_opencode, _places)
