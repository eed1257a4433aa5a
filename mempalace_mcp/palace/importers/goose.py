"""Sessions of Goose: its database `sessions.db`, and the files of JSON Lines that were before it.

The database has taken in the files, which stay where they are. So a message is known by what it says: it has the same
key in both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.foreign_database import ForeignDatabase
from mempalace_mcp.palace.importers.conversations import (
    Conversation,
    Session,
    Speaker,
    Turn,
    epoch_time,
    iso_time,
    label,
    read_conversation,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.databases import is_quiet, read_database
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, read_records
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.said import Named

NAME = "goose"
LARGEST = 256 * MEBIBYTE
DAMAGED = "a message that is damaged"

_DATABASE = "sessions.db"
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_OF_PROGRAMS = frozenset({"sub_agent", "hidden"})
_SECONDS_END = 10_000_000_000
"""Numbers beyond are milliseconds, as Goose takes them."""
_SESSION_COLUMNS = (
    "id",
    "working_dir",
    "name",
    "description",
    "session_type",
    "created_at",
    "updated_at",
    "model_config_json",
)
_MESSAGE_COLUMNS = ("role", "content_json", "created_timestamp", "metadata_json", "message_id")


def read_goose(source: Source) -> Iterator[Document | Problem]:
    """The sessions in the database, or that in a file.

    Raises:
        OSError: a file cannot be opened or read on.
    """
    if source.path.suffix.lower() == ".db":
        yield from read_database(source, _read_sessions)
    else:
        yield from _read_file(source)


def _read_sessions(source: Source, database: ForeignDatabase) -> Iterator[Document | Problem]:
    faults, spoken = LineFaults(), False
    for row in _rows(database, "sessions", _SESSION_COLUMNS, "ORDER BY id"):
        if row["session_type"] in _OF_PROGRAMS:
            continue
        model = (parsed(row["model_config_json"]) or {}).get("model_name")
        session = _session(str(row["id"]), row, model, "goose-database")
        turns = _turns(_messages(database, session.session_id, faults), source)
        for document in read_conversation(source, session, turns, is_ended=is_quiet(iso_time(row["updated_at"]))):
            spoken = True
            yield document
    if not spoken:
        yield source.skipped("no conversations")
    yield from faults.report(source.name)


def _rows(
    database: ForeignDatabase, table: str, columns: Iterable[str], rest: str, *parameters: str
) -> Iterator[dict[str, Any]]:
    """Rows as objects; what a version of the program does not have is None."""
    known = database.columns(table)
    names = ", ".join(name if name in known else f"NULL AS {name}" for name in columns)
    for row in database.rows(f"SELECT {names} FROM {table} {rest}", parameters):
        yield dict(zip(columns, row, strict=True))


def _messages(database: ForeignDatabase, session_id: str, faults: LineFaults) -> Iterator[Json]:
    rows = _rows(database, "messages", _MESSAGE_COLUMNS, "WHERE session_id = ? ORDER BY id", session_id)
    for number, row in enumerate(rows, 1):
        try:
            content = json.loads(string(row["content_json"]))
        except (ValueError, RecursionError):
            faults.add(DAMAGED, number)
            continue
        yield {
            "role": row["role"],
            "content": content,
            "created": row["created_timestamp"],
            "metadata": parsed(row["metadata_json"]),
            "id": row["message_id"],
        }


def _read_file(source: Source) -> Iterator[Document | Problem]:
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults, spoken = LineFaults(), False
    with file:
        records = (record for _, record in read_records(file, faults))
        session = _session(source.path.stem, next(records, {}), None, "goose-file")
        conversation = Conversation(source, session)
        for turn in _turns(records, source):
            spoken = True
            yield from conversation.add(turn)
        yield from conversation.finish()
    if not spoken:
        yield source.skipped("no text")
    yield from faults.report(source.name)


def _session(session_id: str, told: Json, model: Any, source_format: str) -> Session:
    return Session(
        NAME,
        session_id,
        cwd=label(told.get("working_dir")),
        model=label(model),
        title=label(told.get("name")) or label(told.get("description")),
        started_at=iso_time(told.get("created_at")),
        source_format=source_format,
    )


def _turns(messages: Iterable[Json], source: Source) -> Iterator[Turn]:
    named = Named()
    for message in messages:
        speaker = _SPEAKERS.get(string(message.get("role")))
        if speaker is None or inner(message, "metadata").get("userVisible") is False:
            continue  # what the program tells the model alone, such as a summary
        time, message_id = _time(message.get("created")), label(message.get("id"))
        metadata = {"message_id": message_id} if message_id else {}
        said = [named.turn(speaker, text_of(message.get("content")), time, metadata)]
        if source.include_tools:
            said += [named.turn(Speaker.TOOL, shortened(result), time) for result in _results(message)]
        yield from filter(None, said)


def _results(message: Json) -> Iterator[str]:
    for block in objects(message, "content"):
        if block.get("type") == "toolResponse":
            value = inner(inner(block, "toolResult"), "value")
            yield text_of(value.get("content")) or text_of(inner(block, "toolResult").get("value"))


def _time(value: Any) -> Instant | None:
    is_milliseconds = isinstance(value, int | float) and value > _SECONDS_END
    return epoch_time(value, 1000 if is_milliseconds else 1)


def _recognizes(candidate: Candidate) -> bool:
    if candidate.path.suffix.lower() == ".db":
        return candidate.path.name == _DATABASE and candidate.is_database and b"content_json" in candidate.head
    return any({"working_dir", "description"} <= record.keys() for record in candidate.records[:1])


def _places(machine: Machine) -> Iterator[Path]:
    root = machine.environment.get("GOOSE_PATH_ROOT")
    folders = (Path(root) / "data",) if root else (machine.data / NAME, machine.applications / "Block" / NAME / "data")
    for folder in folders:
        yield folder / "sessions" / _DATABASE
        yield from sorted((folder / "sessions").glob("*.jsonl"))


GOOSE = Reader(NAME, "Goose", frozenset({".db", ".jsonl"}), _recognizes, read_goose, _places)
