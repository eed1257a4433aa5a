"""The folders in which Claude Code keeps its histories: `projects/SLUG/SESSION.jsonl` and what lies around it.

The slug is the working folder with everything but letters and digits replaced, so that it cannot be turned back. Beside
a transcript there may be `SESSION/subagents` and `SESSION/tool-results`, beside all of them `memory` with notes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp.palace.importers.claude_code import Beginning, beginning_of
from mempalace_mcp.palace.importers.documents import Source
from mempalace_mcp.palace.importers.files import open_regular_file
from mempalace_mcp.palace.importers.naming import MEMORY, SESSIONS, is_home, is_inside, named_by_slug

_SLUG = re.compile(r"-.*|[A-Za-z]--.*")
_SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRANSCRIPT = ".jsonl"
_INDEX = "MEMORY.md"
_LARGEST_INDEX = 1024 * 1024
_LINK = re.compile(r"(?:[-*+]\s+)?\[[^\]]*\]\([^)\s]+\.md\)")
_MOST_LOOKED_AT = 20
"""Transcripts of a project that are opened to find one that names its folder."""


def is_tool_output(folder: Path) -> bool:
    """Does the folder hold the output of tools in a session?"""
    session = folder.parent
    return folder.name == "tool-results" and (
        _SESSION.fullmatch(session.name) is not None or session.with_name(f"{session.name}{_TRANSCRIPT}").exists()
    )


def is_index_of_notes(path: Path) -> bool:
    """Is this the index of the notes beside it: nothing but headings and links to them?"""
    if path.name != _INDEX or path.parent.name != MEMORY or project_of_history(path) is None:
        return False
    try:
        with os.fdopen(open_regular_file(path), encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.read(_LARGEST_INDEX).splitlines() if line.strip()]
    except OSError:
        return False
    entries = [line for line in lines if not line.startswith("#")]
    return bool(entries) and all(_LINK.match(entry) for entry in entries)


def project_of_history(path: Path) -> Path | None:
    """The folder `projects/SLUG` that a file lies in, or None if it lies in none."""
    for folder in path.parents:
        if folder.parent.name == "projects" and _SLUG.fullmatch(folder.name):
            return folder
    return None


def folder_of_notes(path: Path) -> tuple[str, str] | None:
    """For a note in a project's history the working folder of the project, or its name, and the room for the note."""
    project = project_of_history(path)
    if project is None:
        return None
    begun = next((begun for begun in _beginnings(project) if begun.folder), Beginning())
    folder = working_folder(project, begun) or named_by_slug(project.name)
    return folder, MEMORY if MEMORY in path.relative_to(project).parts[:-1] else SESSIONS


def working_folder(project: Path | None, begun: Beginning) -> str | None:
    """Where a session began, or the folder around it that another session shows to be in the same repository."""
    folder = begun.folder
    if folder is None or project is None or not begun.branch:
        return folder
    for name in _shorter_slugs(project):
        for other in _beginnings(project.with_name(name)):
            if other.branch and other.folder and is_inside(folder, other.folder) and not is_home(other.folder):
                return other.folder
    return folder


def _shorter_slugs(project: Path) -> list[str]:
    """Projects beside this one whose folder may be around its own, the outermost first."""
    names = (name for name in _names_in(project.parent) if project.name.startswith(f"{name}-"))
    return sorted(names, key=len)


def _beginnings(project: Path) -> Iterator[Beginning]:
    """How some sessions of a project began."""
    names = [name for name in _names_in(project) if name.endswith(_TRANSCRIPT)]
    for name in names[:_MOST_LOOKED_AT]:
        yield beginning_of(Source(project / name, SESSIONS))


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []
