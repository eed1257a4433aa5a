"""claude-mem: observations, summaries of sessions, prompts and directives in its SQLite database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import UTC_ZONE
from mempalace_mcp.core.errors import InvalidArgument, PalaceError, StorageError
from mempalace_mcp.core.foreign_database import ForeignDatabase, is_database, open_foreign
from mempalace_mcp.palace.migration.items import Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.values import read_json, read_time, text_of

_FILE = "claude-mem.db"
_WING = "claude-mem"
_SUMMARY = ("request", "investigated", "learned", "completed", "next_steps", "notes")
_KEPT = ("memory_session_id", "sdk_session_id", "content_session_id", "prompt_number", "type", "agent_type", "status")
_LISTS = ("concepts", "files_read", "files_modified", "files_edited")

Record = Mapping[str, Any]


def _observation(record: Record) -> str:
    """Title, subtitle, narrative and facts as one text; older versions have one text only."""
    facts = [f"- {fact}" for fact in read_json(record.get("facts"), list) if isinstance(fact, str) and fact.strip()]
    parts = [text_of(record.get(name)).strip() for name in ("title", "subtitle", "narrative")]
    return _paragraphs([*parts, "\n".join(facts)]) or text_of(record.get("text"))


def _summary(record: Record) -> str:
    """What a session was about, each part under its name."""
    named = ((name, text_of(record.get(name)).strip()) for name in _SUMMARY)
    return _paragraphs([f"{name.replace('_', ' ').capitalize()}: {text}" for name, text in named if text])


def _paragraphs(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part)


TABLES: Mapping[str, tuple[str, Callable[[Record], str]]] = {
    "observations": ("observation", _observation),
    "session_summaries": ("summaries", _summary),
    "user_prompts": ("prompts", lambda record: text_of(record.get("prompt_text"))),
    "directives": ("directives", lambda record: text_of(record.get("content"))),
}
"""Each with the room of its texts where a record names none, and how a record becomes a text."""


class ClaudeMem:
    """Each record becomes a drawer in the wing of its project."""

    name = "claude-mem"
    title = "claude-mem"
    has_unique_ids = False

    def places(self, options: Options) -> Iterator[Path]:
        """Where its setting says, or below the home directory."""
        if named := options.environment.get("CLAUDE_MEM_DATA_DIR"):
            yield Path(named).expanduser() / _FILE
        if options.home is not None:
            yield options.home / ".claude-mem" / _FILE

    def recognizes(self, path: Path) -> bool:
        """Its database by name or by its tables, or the folder of that."""
        file = _file_of(path)
        if file is None:
            return False
        if file.name == _FILE:
            return True
        try:
            with open_foreign(file) as database:
                return _has_observations(database)
        except PalaceError:
            return False

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """All records, table by table."""
        file = _file_of(path)
        if file is None:
            raise StorageError(f"{path} is not there any more", hint=f"Name the file {_FILE}.")
        with open_foreign(file, options.scratch) as database:
            if not _has_observations(database):
                raise InvalidArgument(f"{file} has no observations", hint="It is empty, or of an unknown version.")
            projects = _projects(database)
            for table, (room, shape) in TABLES.items():
                for record in _records(database, table):
                    session = projects.get(text_of(record.get("content_session_id")), "")
                    named = [text_of(record.get(name)).strip() for name in ("merged_into_project", "project")]
                    wing = next(filter(None, (*named, session, options.wing)), _WING)
                    yield _item(record, f"{table}:{record.get('id')}", wing, room, shape(record))


def _file_of(path: Path) -> Path | None:
    return next((file for file in (path, path / _FILE) if is_database(file)), None)


def _has_observations(database: ForeignDatabase) -> bool:
    return database.columns("observations") >= {"project", "type"}


def _records(database: ForeignDatabase, table: str) -> Iterator[Record]:
    """The rows of a table by the names of its columns, whichever this version has."""
    columns = sorted(database.columns(table))
    if not columns:
        return
    quoted = ", ".join(f'"{name}"' for name in columns)
    for row in database.rows(f"SELECT {quoted} FROM {table} ORDER BY rowid"):
        yield dict(zip(columns, row, strict=True))


def _projects(database: ForeignDatabase) -> dict[str, str]:
    """The projects of sessions, for the prompts, which do not name theirs."""
    if not {"content_session_id", "project"} <= database.columns("sdk_sessions"):
        return {}
    return dict(database.rows("SELECT content_session_id, project FROM sdk_sessions"))


def _item(record: Record, id: str, wing: str, room: str, content: str) -> Item:
    if not content.strip():
        return LeftOut(id, "a record has no text")
    kind = text_of(record.get("type")).strip()
    lists = {name: found for name in _LISTS if (found := read_json(record.get(name), list))}
    instant = read_time(record.get("created_at_epoch"), UTC_ZONE)
    return TextItem(
        id=id,
        wing=wing,
        room=kind or room,
        content=content,
        occurred_at=read_time(record.get("created_at"), UTC_ZONE) if instant is None else instant,
        metadata={**{name: record.get(name) for name in _KEPT}, **lists},
    )
