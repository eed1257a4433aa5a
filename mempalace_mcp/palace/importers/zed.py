"""Threads of Zed's own agent: its database `threads.db`, one compressed JSON document for each.

Answers have no ids, those of the user's messages change when a thread of an earlier version is written anew, and only
threads have times. So messages are known by what they say.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mempalace_mcp.core.foreign_database import ForeignDatabase
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    iso_time,
    label,
    read_conversation,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.databases import is_quiet, read_database
from mempalace_mcp.palace.importers.documents import Document, Problem, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE
from mempalace_mcp.palace.importers.json_lines import LineFaults
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.said import Named
from mempalace_mcp.palace.importers.zstandard_files import NEEDED, DamagedArchive, Decompress, decompressor

NAME = "zed"
LARGEST_THREAD = 64 * MEBIBYTE
DAMAGED = "a thread that is damaged"
TOO_LARGE = f"a thread of more than {LARGEST_THREAD // MEBIBYTE} MiB"

_DATABASE = "threads.db"
_COLUMNS = ("id", "summary", "updated_at", "created_at", "folder_paths", "folder_paths_order", "parent_id")


def read_threads(source: Source) -> Iterator[Document | Problem]:
    """The threads in the database."""
    yield from read_database(source, _read_threads)


def _read_threads(source: Source, database: ForeignDatabase) -> Iterator[Document | Problem]:
    faults, spoken, decompress = LineFaults(), False, decompressor()
    known = database.columns("threads")
    names = ", ".join(name if name in known else f"NULL AS {name}" for name in _COLUMNS)
    rows = database.rows(f"SELECT {names}, data_type, data FROM threads ORDER BY id")
    for number, (*values, data_type, data) in enumerate(rows, 1):
        told = dict(zip(_COLUMNS, values, strict=True))
        if told["parent_id"]:
            continue  # of a sub-agent
        thread, fault = _thread(data_type, data, decompress)
        if thread is None:
            faults.add(fault, number)
            continue
        if thread.get("imported"):
            continue  # somebody else's, who shared it
        is_ended = is_quiet(iso_time(told["updated_at"]))
        for document in read_conversation(source, _session(told, thread), _turns(thread, source), is_ended=is_ended):
            spoken = True
            yield document
    if not spoken and not faults.counts:
        yield source.skipped("no conversations")
    yield from faults.report(source.name)


def _thread(data_type: Any, data: Any, decompress: Decompress | None) -> tuple[Json | None, str]:
    """What a row holds, or why it cannot be read."""
    if data_type == "zstd" and isinstance(data, bytes):
        if decompress is None:
            return None, NEEDED
        try:
            data = decompress(io.BytesIO(data)).read(LARGEST_THREAD + 1)
        except DamagedArchive:
            return None, DAMAGED
        if len(data) > LARGEST_THREAD:
            return None, TOO_LARGE
    return parsed(data), DAMAGED


def _session(told: Mapping[str, Any], thread: Json) -> Session:
    model = inner(thread, "model")
    return Session(
        NAME,
        str(told["id"]),
        cwd=_folder(told, thread),
        model=label(model.get("model")),
        title=label(thread.get("title")) or label(told["summary"]),
        started_at=iso_time(told["created_at"]) or iso_time(told["updated_at"]) or iso_time(thread.get("updated_at")),
        source_format="zed-threads",
    )


def _folder(told: Mapping[str, Any], thread: Json) -> str | None:
    """The folder that was opened first; the paths are sorted, and their order is told beside them."""
    paths = string(told["folder_paths"]).split("\n")
    order = string(told["folder_paths_order"]).split(",")
    first = order.index("0") if "0" in order and len(order) == len(paths) else 0
    snapshots = objects(inner(thread, "initial_project_snapshot"), "worktree_snapshots")
    return label(paths[first]) or next((label(each.get("worktree_path")) for each in snapshots), None)


def _turns(thread: Json, source: Source) -> Iterator[Turn]:
    """Messages of the present form, `{"User": …}` and `{"Agent": …}`, or of the one before, with a role."""
    named = Named()
    for message in objects(thread, "messages"):
        user, agent = inner(message, "User"), inner(message, "Agent")
        earlier = text_of(message.get("segments"))
        said: list[Turn | None] = []
        if user or message.get("role") == "user":
            metadata = {"message_id": message_id} if (message_id := label(user.get("id"))) else {}
            said.append(named.turn(Speaker.USER, "".join(_texts(user)) or earlier, metadata=metadata))
        elif agent or message.get("role") == "assistant":
            said.append(named.turn(Speaker.ASSISTANT, "\n\n".join(filter(None, _texts(agent))) or earlier))
        if source.include_tools:
            said += [named.turn(Speaker.TOOL, shortened(result)) for result in _results(agent)]
        yield from filter(None, said)


def _texts(message: Json) -> Iterator[str]:
    """What a message says. Mentions of files hold their contents: only their names are kept."""
    for part in objects(message, "content"):
        yield string(part.get("Text"))
        if name := _mentioned(inner(inner(part, "Mention"), "uri")):
            yield f"@{name}"


def _mentioned(uri: Json) -> str:
    """The name of what a mention leads to."""
    what: Json = next((each for each in uri.values() if isinstance(each, Mapping)), {})
    path = string(what.get("abs_path")).replace("\\", "/").rstrip("/")
    return string(what.get("name")) or path.rpartition("/")[2] or string(what.get("url"))


def _results(agent: Json) -> Iterator[str]:
    for result in inner(agent, "tool_results").values():
        content = result.get("content") if isinstance(result, Mapping) else None
        for part in content if isinstance(content, list) else [content]:
            yield string(part.get("Text") or part.get("text")) if isinstance(part, Mapping) else string(part)


def _recognizes(candidate: Candidate) -> bool:
    return candidate.path.name == _DATABASE and candidate.is_database and b"data_type" in candidate.head


def _places(machine: Machine) -> Iterator[Path]:
    folders = (
        machine.data / "zed",
        machine.home / ".var" / "app" / "dev.zed.Zed" / "data" / "zed",  # of Flatpak
        machine.applications / "Zed",
        machine.folder("LOCALAPPDATA", machine.home / "AppData" / "Local") / "Zed",
    )
    yield from (folder / "threads" / _DATABASE for folder in folders)


ZED = Reader(NAME, "Zed", frozenset({".db"}), _recognizes, read_threads, _places)
