"""The files of folders that are imported, in an order that is always the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.palace.importers.claude_folders import is_index_of_notes, is_tool_output
from mempalace_mcp.palace.importers.documents import SkippedFile
from mempalace_mcp.palace.importers.files import is_within, open_folder, printable, real_path, unstorable
from mempalace_mcp.palace.importers.ignore_rules import (
    MARK,
    OWN,
    IgnoreRules,
    outer_rules,
    read_ignore_rules,
    repository_rules,
)
from mempalace_mcp.palace.importers.naming import project_folder
from mempalace_mcp.palace.importers.non_notes import TEMPLATE, reason_by_beginning, reason_by_name
from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import HIDDEN_NAMES, reader_of
from mempalace_mcp.palace.importers.reading import SUFFIXES, TRANSCRIPT
from mempalace_mcp.palace.importers.templates import MARK as VAULT
from mempalace_mcp.palace.importers.templates import Templates, read_templates

OUTSIDE = "outside the folders that may be read"

_DEPENDENCIES = frozenset({"__pycache__", "bower_components", "node_modules", "site-packages", "venv"})
_GENERATED_MARKS = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
"""Files by which caches and virtual environments declare themselves, whatever their folder is called."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read, by its real path, and the project folder it was found under."""

    path: Path
    root: Path


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a folder holds under a name."""

    name: str
    path: Path
    is_link: bool
    is_folder: bool
    is_file: bool


def discover(paths: Sequence[Path], within: Sequence[Path] | None = None) -> Iterator[FoundFile | SkippedFile]:
    """Files to read: the given ones, whatever their kind, and those of a known kind in the given folders.

    In folders, left out are hidden files, what Git or a `.palaceignore` ignores there, dependencies, caches, symbolic
    links, files of other kinds, and those that are no notes (`non_notes.py`). Nothing is yielded twice. Problems are
    yielded, never raised.
    With `within`, whatever a path leads to must lie in one of these folders.
    """
    seen: set[Path] = set()
    for given in paths:
        for entry in _found_at(given, within):
            if isinstance(entry, SkippedFile):
                yield entry
            elif entry.path not in seen:
                seen.add(entry.path)
                yield entry


def _found_at(given: Path, within: Sequence[Path] | None) -> Iterator[FoundFile | SkippedFile]:
    path = real_path(given)
    if isinstance(path, SkippedFile):
        yield path
        return
    if within is not None and not is_within(path, within):
        yield _skipped(given, OUTSIDE)
        return
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield _unreadable(path, error)
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, within)
    elif stat.S_ISREG(mode):
        yield FoundFile(path, project_folder(path.parent))
    else:
        yield _skipped(path, "not a regular file")


def _walk(top: Path, within: Sequence[Path] | None) -> Iterator[FoundFile | SkippedFile]:
    """Files of a folder first, then its subfolders; without recursion, for folders may nest deeply."""
    root = project_folder(top)
    around, problems = outer_rules(top, root, within)
    yield from problems
    waiting: list[tuple[Path, IgnoreRules | None, Templates | None]] = [(top, around, None)]
    while waiting:
        folder, outer, templates = waiting.pop()
        entries = _entries(folder)
        if isinstance(entries, SkippedFile):
            yield entries
            continue
        if folder != top and any(entry.name in _GENERATED_MARKS for entry in entries):
            yield _skipped(folder, "cache or dependencies")
            continue
        if folder != top and any(entry.name == MARK for entry in entries):
            outer, problems = repository_rules(folder, outer, within)
            yield from problems
        rules, problems = read_ignore_rules(folder, outer)
        yield from problems
        if any(entry.name == VAULT and entry.is_folder for entry in entries):
            templates = read_templates(folder)
        folders = []
        for entry in entries:
            reason = _reason_to_skip(entry, rules, templates)
            if reason is not None:
                yield _skipped(entry.path, reason)
            elif entry.is_folder:
                folders.append((entry.path, rules, templates))
            else:
                yield FoundFile(entry.path, root)
        waiting += reversed(folders)


def _entries(folder: Path) -> list[_Entry] | SkippedFile:
    try:
        descriptor = open_folder(folder)
        try:
            with os.scandir(descriptor) as scan:
                return sorted((_entry(folder, entry) for entry in scan), key=lambda entry: entry.name)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _unreadable(folder, error)


def _entry(folder: Path, found: os.DirEntry[str]) -> _Entry:
    is_folder, is_file = found.is_dir(follow_symlinks=False), found.is_file(follow_symlinks=False)
    return _Entry(found.name, folder / found.name, found.is_symlink(), is_folder, is_file)


def _reason_to_skip(entry: _Entry, rules: IgnoreRules | None, templates: Templates | None) -> str | None:
    reason = _reason_by_kind(entry) or _reason_by_rules(entry, rules, templates)
    if reason is not None or entry.is_folder:
        return reason
    if not entry.is_file:
        return "not a regular file"
    fault = unstorable(str(entry.path))
    return _reason_in_file(entry) if fault is None else f"its name {fault}"


def _reason_by_kind(entry: _Entry) -> str | None:
    if entry.name.startswith(".") and not _is_history(entry):
        return "hidden"
    if entry.is_link:
        return "symbolic link"
    if entry.is_folder and entry.name in _DEPENDENCIES:
        return "cache or dependencies"
    return "output of tools" if entry.is_folder and is_tool_output(entry.path) else None


def _reason_by_rules(entry: _Entry, rules: IgnoreRules | None, templates: Templates | None) -> str | None:
    by = None if rules is None else rules.ignores(str(entry.path), is_folder=entry.is_folder)
    if by is not None and (by == OWN or not _is_history(entry)):  # programs tell Git to ignore their histories
        return f"ignored by {by}"
    return TEMPLATE if templates is not None and templates.hold(entry.path) else None


def _is_history(entry: _Entry) -> bool:
    """Is this a hidden file in which a program keeps conversations?"""
    return entry.is_file and entry.name in HIDDEN_NAMES


def _reason_in_file(entry: _Entry) -> str | None:
    """Why a file is left out that could be read."""
    reason = reason_by_name(entry.name)
    if reason is not None:
        return reason
    suffix = entry.path.suffix.lower()
    if suffix == TRANSCRIPT or reader_of(Candidate(entry.path)) is not None:
        return None
    if suffix not in SUFFIXES:
        return "not a kind of file that is read"
    return "an index of other notes" if is_index_of_notes(entry.path) else reason_by_beginning(entry.path)


def _skipped(path: Path, reason: str) -> SkippedFile:
    return SkippedFile(printable(str(path)), reason)


def _unreadable(path: Path, error: OSError) -> SkippedFile:
    return _skipped(path, f"unreadable: {error.strerror}")
