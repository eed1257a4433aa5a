"""The database of Codex, `thread_history_N.sqlite`, which holds sessions whose files are gone.

What is known of a session as a whole is in another database beside it, `state_N.sqlite`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.foreign_database import ForeignDatabase, open_foreign
from mempalace_mcp.palace.importers.codex_turns import NAME, NAMED, Said, named_turns, typed
from mempalace_mcp.palace.importers.conversations import Session, Speaker, epoch_time, label, read_conversation, text_of
from mempalace_mcp.palace.importers.databases import read_database
from mempalace_mcp.palace.importers.documents import Document, Problem, Source
from mempalace_mcp.palace.importers.json_values import Json, parsed
from mempalace_mcp.palace.importers.reader import Candidate

DATABASE = ".sqlite"
NOTHING = "no sessions"

_FOLDERS = ("sessions", "archived_sessions")
_SPEAKERS = {"userMessage": Speaker.USER, "agentMessage": Speaker.ASSISTANT}
_FIELDS = (
    "id",
    "rollout_path",
    "source",
    "thread_source",
    "cwd",
    "title",
    "name",
    "git_branch",
    "model",
    "cli_version",
)
_MILLISECONDS = 1_000


def read_threads(source: Source) -> Iterator[Document | Problem]:
    """The sessions in the database that are in no file; mostly there are none, and that is no problem."""
    yield from read_database(source, _read)


def is_history(candidate: Candidate) -> bool:
    """Is it this database?"""
    is_named = candidate.path.name.startswith("thread_history_")
    return candidate.is_database and (is_named or b"CREATE TABLE thread_items" in candidate.head)


def _read(source: Source, database: ForeignDatabase) -> Iterator[Document | Problem]:
    if not {"thread_id", "rollout_ordinal", "item_json"} <= database.columns("thread_items"):
        yield source.skipped(NOTHING)
        return
    in_files, known = _in_files(source.path.parent), _known(source.path.parent)
    threads = [name for (name,) in database.rows("SELECT DISTINCT thread_id FROM thread_items ORDER BY 1")]
    for thread in threads:
        about = _about(thread, known)
        if not isinstance(thread, str) or thread in in_files or _has_file(thread, about) or _is_subagent(about):
            continue
        version = label(about.get("cli_version"))
        session = Session(
            NAME,
            label(about.get("id")) or thread,
            cwd=label(about.get("cwd")),
            git_branch=label(about.get("git_branch")),
            model=label(about.get("model")),
            title=label(about.get("name")),
            source_format="codex-database",
            metadata={"client_version": version} if version else {},
        )
        yield from read_conversation(source, session, named_turns(_said(database, thread), thread))
    if not threads:
        yield source.skipped(NOTHING)


def _said(database: ForeignDatabase, thread: str) -> Iterator[Said]:
    time = "created_at_ms" if "created_at_ms" in database.columns("thread_items") else "NULL"
    sql = f"SELECT item_json, {time} FROM thread_items WHERE thread_id = ? ORDER BY rollout_ordinal"
    for value, created in database.rows(sql, (thread,)):
        item = parsed(value) or {}
        kind = item.get("type")
        speaker = _SPEAKERS.get(kind) if isinstance(kind, str) else None
        if speaker is not None:
            text = text_of(item.get("content")) or text_of(item.get("text"))
            said = Said(speaker, text, epoch_time(created, _MILLISECONDS), label(item.get("id")))
            if text := typed(said):
                yield Said(speaker, text, said.time, said.item)


def _in_files(folder: Path) -> frozenset[str]:
    """The sessions, and parts of sessions, that are in files."""
    names = (NAMED.match(path.name) for each in _FOLDERS for path in (folder / each).rglob("rollout-*"))
    return frozenset(named["part"] or named["id"] for named in names if named is not None)


def _has_file(thread: str, about: Json) -> bool:
    """Is the session in the file that the program names, wherever that is?"""
    path = Path(str(about.get("rollout_path") or ""))
    named = NAMED.match(path.name)
    if named is None or thread != (named["part"] or named["id"]):
        return False
    places = (str(path), f"{path}.zst")
    return any(os.path.exists(place) for place in places)  # noqa: PTH110 - a path that no file can have is no error


def _known(folder: Path) -> Mapping[str, Json]:
    """What is known of sessions, by their ids."""
    known: dict[str, Json] = {}
    for path in sorted(folder.glob("state_*.sqlite"), key=lambda path: (len(path.name), path.name)):
        try:
            with open_foreign(path) as database:
                columns = [name for name in _FIELDS if name in database.columns("threads")]
                rows: Any = database.rows(f"SELECT {', '.join(columns)} FROM threads") if "id" in columns else ()
                for row in rows:
                    about = dict(zip(columns, row, strict=True))
                    if isinstance(about["id"], str):
                        known[about["id"]] = about
        except PalaceError:
            continue  # what is said is in the other one
    return known


def _about(thread: Any, known: Mapping[str, Json]) -> Json:
    """What is known of a session, or of that of which this is a part."""
    if thread in known:
        return known[thread]
    return next((each for each in known.values() if str(thread) in str(each.get("rollout_path"))), {})


def _is_subagent(about: Json) -> bool:
    """Did the program itself begin the session?"""
    return str(about.get("source", "")).startswith("{") or about.get("thread_source") not in (None, "user")
