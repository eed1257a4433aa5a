"""Chooses the reader of a file, and the wing and room of its documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

from mempalace_mcp.core.clock import UTC_ZONE, Zone
from mempalace_mcp.palace.importers.claude_code import CLAUDE_CODE, beginning_of, read_transcript
from mempalace_mcp.palace.importers.claude_folders import folder_of_notes, project_of_history, working_folder
from mempalace_mcp.palace.importers.documents import Document, Problem, Resume, SkippedFile, Source
from mempalace_mcp.palace.importers.files import real_path
from mempalace_mcp.palace.importers.naming import SESSIONS, project_folder, room_of, wing_of
from mempalace_mcp.palace.importers.notes import read_markdown, read_plain_text
from mempalace_mcp.palace.importers.opting_out import LEFT_OUT, is_left_out, without_left_out
from mempalace_mcp.palace.importers.other_json import read_any_text, read_json
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import reader_of

TRANSCRIPT = ".jsonl"
JSON = (".json", ".ndjson", ".jsonlines")

Read = Callable[[Source], Iterator[Document | Problem]]

SUFFIXES: MappingProxyType[str, Read] = MappingProxyType(
    {
        TRANSCRIPT: read_transcript,
        ".md": read_markdown,
        ".markdown": read_markdown,
        ".txt": read_plain_text,
        ".rst": read_plain_text,
        ".org": read_plain_text,
        "": read_any_text,
    }
)
"""Kinds of files that are looked for; any other file that is given by name is read as plain text, unless it is JSON."""


def read(path: Path, root: Path | None = None) -> Iterator[Document | Problem]:
    """The documents of one file and what had to be left out of it; problems are yielded, never raised.

    The same file yields the same documents with the same keys, whatever path leads to it. Below `root`, by default the
    repository or folder that holds the file, folders name the rooms.
    """
    real = real_path(path)
    if isinstance(real, SkippedFile):
        yield real
    else:
        yield from read_real(real, root)


def read_real(
    path: Path,
    root: Path | None = None,
    zone: Zone = UTC_ZONE,
    *,
    include_tools: bool = False,
    resume: Resume | None = None,
    keep_secrets: bool = False,
) -> Iterator[Document | Problem]:
    """As `read`, of a file at its real path: nothing is resolved anew, so a link that has come in between is a problem
    and is not followed. `zone` is the one of dates without one."""
    source = Source(
        path, SESSIONS if _is_transcript(path) else _room(path, root), zone, include_tools, resume, keep_secrets
    )
    reader = reader_of(Candidate(path))
    if reader in (None, CLAUDE_CODE) and is_left_out(_folder_of_history(path) or ""):
        yield source.skipped(LEFT_OUT)
        return
    read_file = _reader_by_suffix(path) if reader is None else reader.read
    try:
        yield from without_left_out(read_file(source), source)
    except OSError as error:
        yield source.skipped(f"unreadable: {error.strerror}")


def _reader_by_suffix(path: Path) -> Read:
    suffix = path.suffix.lower()
    return read_json if suffix in JSON else SUFFIXES.get(suffix, read_any_text)


def default_wing(path: Path, root: Path | None = None) -> str:
    """The wing a file's documents belong in unless the caller says otherwise: the name of its project.

    That is the repository or folder where the conversation of a transcript began, also for notes that the client keeps
    beside it; else `root`, else the repository or folder that holds the file.
    """
    real = real_path(path)
    return wing_of("") if isinstance(real, SkippedFile) else wing_of_real(real, root)


def wing_of_real(path: Path, root: Path | None = None) -> str:
    """As `default_wing`, of a file at its real path."""
    return wing_of(_folder_of_history(path) or _root(path, root))


def _folder_of_history(path: Path) -> str | None:
    """The working folder of a transcript, or of the project that a client keeps notes of, or the name of the latter."""
    if _is_transcript(path):
        return working_folder(project_of_history(path), beginning_of(Source(path, SESSIONS)))
    notes = folder_of_notes(path)
    return None if notes is None else notes[0]


def _is_transcript(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in (TRANSCRIPT, *JSON) or (suffix not in SUFFIXES and TRANSCRIPT in map(str.lower, path.suffixes))


def _room(path: Path, root: Path | None) -> str:
    notes = folder_of_notes(path)
    return room_of(path, _root(path, root)) if notes is None else notes[1]


def _root(path: Path, root: Path | None) -> Path:
    return root.resolve() if root else project_folder(path.parent)
