"""Conversations with Cursor: the database of the editor, `state.vscdb`, and the transcripts beside it.

The database has a row for each conversation (`composerData:ID`), which lists its messages, and one for each message
(`bubbleId:ID:MESSAGE`). It may be several GB large: one message at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.foreign_database import ForeignDatabase, open_foreign
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    epoch_time,
    iso_time,
    label,
    read_conversation,
    shortened,
)
from mempalace_mcp.palace.importers.cursor_transcripts import FOLDER, NAME, is_transcript, read_transcript
from mempalace_mcp.palace.importers.databases import is_quiet, read_database, value_of
from mempalace_mcp.palace.importers.documents import Document, Problem, Source
from mempalace_mcp.palace.importers.editors import WINDOWS, Project, project_of, project_of_window
from mempalace_mcp.palace.importers.json_lines import LineFaults
from mempalace_mcp.palace.importers.json_values import Json, entries, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.said import Named

DATABASE = ".vscdb"
DAMAGED = "a conversation that is damaged"

_TABLE = "cursorDiskKV"
_HEADS = "composerHeaders"
_SPEAKERS = {1: Speaker.USER, 2: Speaker.ASSISTANT}
_ENDED = ("completed", "aborted", "cancelled", "error")


def read_cursor(source: Source) -> Iterator[Document | Problem]:
    """The conversations in a database of the editor, or that in a transcript.

    Raises:
        OSError: a transcript cannot be opened or read on.
    """
    if source.path.suffix.lower() != DATABASE:
        yield from read_transcript(source)
        return
    yield from read_database(source, _read_composers)


def _read_composers(source: Source, database: ForeignDatabase) -> Iterator[Document | Problem]:
    if _TABLE not in database.tables():
        yield source.skipped("no conversations")
        return
    faults, spoken = LineFaults(), False
    composers = _Composers(database, source.path)
    for number, (key, value) in enumerate(composers.rows(), 1):
        composer_id = key.partition(":")[2]
        composer = parsed(value)
        if composer is None:
            if value is not None:
                faults.add(DAMAGED, number)
            continue
        if composers.is_subagent(composer_id, composer):
            continue
        session = composers.session(composer_id, composer)
        turns = _turns(_bubbles(database, composer_id, composer), source)
        is_ended = composer.get("status") in _ENDED or is_quiet(epoch_time(composer.get("lastUpdatedAt"), 1000))
        for document in read_conversation(source, session, turns, is_ended=is_ended):
            spoken = True
            yield document
    if not spoken:
        yield source.skipped("no conversations")
    yield from faults.report(source.name)


@dataclass
class _Composers:
    """The conversations of a database, and what other places tell of them."""

    database: ForeignDatabase
    path: Path
    has_heads: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_heads = {"composerId", "value"} <= self.database.columns(_HEADS)

    def rows(self) -> Iterator[tuple[str, Any]]:
        """Keys and values, in an order that is always the same."""
        return (
            (str(key), value)
            for key, value in self.database.rows(
                f"SELECT key, value FROM {_TABLE} WHERE key >= 'composerData:' AND key < 'composerData;' ORDER BY key"
            )
        )

    def is_subagent(self, composer_id: str, composer: Json) -> bool:
        """Was it the agent that held this conversation with another one?"""
        head = self._head(composer_id)
        is_known = any(isinstance(each.get("subagentInfo"), Mapping) for each in (head, composer))
        return is_known or composer_id in self._subagents

    def session(self, composer_id: str, composer: Json) -> Session:
        """What is known of a conversation as a whole."""
        head = self._head(composer_id)
        project = self._project(composer_id, head, composer)
        model = inner(composer, "modelConfig").get("modelName")
        return Session(
            NAME,
            composer_id,
            cwd=project.folder if project else None,
            wing=project.wing if project else None,
            git_branch=label(inner(composer, "gitWorktree").get("branchName"))
            or label(composer.get("createdOnBranch")),
            model=None if model == "default" else label(model),
            title=label(head.get("name")) or label(composer.get("name")),
            started_at=epoch_time(composer.get("createdAt"), 1000) or epoch_time(head.get("createdAt"), 1000),
            source_format="cursor-database",
        )

    def _head(self, composer_id: str) -> Json:
        if not self.has_heads:
            return {}
        head = value_of(self.database, f"SELECT value FROM {_HEADS} WHERE composerId = ?", composer_id)
        return parsed(head) or {}

    @cached_property
    def _subagents(self) -> frozenset[str]:
        """The conversations that others name as those of their sub-agents."""
        found: set[str] = set()
        if "isSubagent" in self.database.columns(_HEADS):
            found |= {str(each) for (each,) in self.database.rows(f"SELECT composerId FROM {_HEADS} WHERE isSubagent")}
        naming = self.database.rows(
            f"SELECT value FROM {_TABLE} WHERE key >= 'composerData:' AND key < 'composerData;'"
            ' AND instr(value, \'"subagentComposerIds":["\')'
        )
        for (value,) in naming:
            found |= set(map(string, entries(parsed(value), "subagentComposerIds")))
        return frozenset(found)

    def _project(self, composer_id: str, head: Json, composer: Json) -> Project | None:
        for each in (head, composer):
            window = inner(each, "workspaceIdentifier")
            environment = inner(inner(each, "agentLocation"), "environment")
            repositories = [repository.get("repoPath") for repository in objects(each, "trackedGitRepos")]
            worktree = inner(each, "gitWorktree").get("worktreePath")
            for uri in (window.get("uri"), window.get("configPath"), environment.get("uri"), *repositories, worktree):
                if (project := project_of(uri)) is not None:
                    return project
            if isinstance(window.get("id"), str) and (project := self._windows.get(window["id"])) is not None:
                return project
        return None if head else self._projects_of_earlier_versions.get(composer_id)

    @cached_property
    def _windows(self) -> Mapping[str, Project]:
        """The projects of the editor's windows, by the names of their folders."""
        folders = self.path.parent.with_name(WINDOWS).glob("*/")
        return {folder.name: project for folder in folders if (project := project_of_window(folder)) is not None}

    @cached_property
    def _projects_of_earlier_versions(self) -> Mapping[str, Project]:
        """The projects of conversations that only the databases of windows list."""
        found: dict[str, Project] = {}
        for name, project in self._windows.items():
            window = self.path.parent.with_name(WINDOWS) / name / self.path.name
            try:
                with open_foreign(window) as database:
                    listed = value_of(database, "SELECT value FROM ItemTable WHERE key = 'composer.composerData'")
            except PalaceError:
                continue  # the conversations are filed all the same
            found |= {string(each.get("composerId")): project for each in objects(parsed(listed), "allComposers")}
        return found


def _bubbles(database: ForeignDatabase, composer_id: str, composer: Json) -> Iterator[Json]:
    """The messages of a conversation in their order; those that were taken back are not listed."""
    yield from objects(composer, "conversation")  # of the first versions
    for header in objects(composer, "fullConversationHeadersOnly"):
        key = f"bubbleId:{composer_id}:{string(header.get('bubbleId'))}"
        bubble = parsed(value_of(database, f"SELECT value FROM {_TABLE} WHERE key = ?", key))
        if bubble is not None:  # a row may be gone, or empty
            yield {**header, **bubble}


def _turns(bubbles: Iterable[Json], source: Source) -> Iterator[Turn]:
    named = Named()
    for bubble in bubbles:
        kind = bubble.get("type")
        speaker = _SPEAKERS.get(kind) if isinstance(kind, int) else None
        if speaker is None:
            continue
        time = iso_time(bubble.get("createdAt")) or epoch_time(bubble.get("createdAt"), 1000)
        message = label(bubble.get("bubbleId"))
        said = named.turn(speaker, string(bubble.get("text")), time, {"message_id": message} if message else {})
        if said is not None:
            yield said
        result = string(inner(bubble, "toolFormerData").get("result")) if source.include_tools else ""
        if (returned := named.turn(Speaker.TOOL, shortened(result), time)) is not None:
            yield returned


def _recognizes(candidate: Candidate) -> bool:
    path = candidate.path
    if path.suffix.lower() == DATABASE:
        # the databases of windows list conversations and hold none
        return WINDOWS not in path.parts and (_TABLE.encode() in candidate.head or NAME in _lower(path))
    if FOLDER in path.parts:
        return True
    return path.suffix.lower() == ".jsonl" and any(map(is_transcript, candidate.records[:1]))


def _lower(path: Path) -> frozenset[str]:
    return frozenset(map(str.lower, path.parts))


def _places(machine: Machine) -> Iterable[Path]:
    users = (machine.applications / "Cursor" / "User", machine.home / ".cursor-server" / "data" / "User")
    databases = (folder / "globalStorage" / f"state{DATABASE}" for folder in users)
    return chain(databases, (machine.home / ".cursor" / "projects").glob(f"*/{FOLDER}"))


CURSOR = Reader(NAME, "Cursor", frozenset({DATABASE, ".jsonl", ".txt"}), _recognizes, read_cursor, _places)
