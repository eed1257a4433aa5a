"""The files of folders that are imported, in an order that is always the same.

Files that Git ignores are left out: by `.gitignore` files, and by the exclusions of a repository and of its user.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.palace.importers.claude_folders import is_tool_output
from mempalace_mcp.palace.importers.decisions import LONGEST_LINE, Pattern, read_patterns
from mempalace_mcp.palace.importers.files import (
    LARGEST_TEXT,
    SkippedFile,
    Source,
    is_within,
    open_file,
    open_folder,
    printable,
    real_path,
    unstorable,
)
from mempalace_mcp.palace.importers.naming import project_folder
from mempalace_mcp.palace.importers.notes import MARK as VAULT
from mempalace_mcp.palace.importers.notes import Templates, read_templates
from mempalace_mcp.palace.importers.reading import SUFFIXES, TRANSCRIPT
from mempalace_mcp.palace.importers.unwanted import TEMPLATE, reason_by_beginning, reason_by_name

MARK = ".git"
"""The folder of a repository, or in a worktree the file that names it."""

_LONGEST = 65_536
_CONFIG_SECTION = re.compile(r"\s*\[\s*([\w.-]+)\s*(?:\"[^\"]*\"\s*)?\]")
_EXCLUDES = re.compile(r"\s*excludesfile\s*=\s*(\"[^\"]*\"|[^#;]*)", re.IGNORECASE)


def own_excludes(root: Path) -> Path:
    """The file in which the repository excludes more for itself, there or not, by its real path."""
    return _real(_common_folder(root / MARK) / "info" / "exclude")


def personal_excludes(root: Path) -> Path:
    """The file in which the user excludes more in every repository, there or not, by its real path.

    It is `core.excludesFile` of Git's configuration, or else its default place. What a configuration includes is not
    looked at.
    """
    settings = Path(_expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config")) / "git"
    places = ("/etc/gitconfig", settings / "config", "~/.gitconfig", _common_folder(root / MARK) / "config")
    chosen = None
    for named in (_excludes_file(_beginning(Path(_expanded(str(place))))) for place in places):
        chosen = chosen if named is None else named
    return _real(settings / "ignore" if chosen is None else root / _expanded(chosen or os.devnull))


def _common_folder(mark: Path) -> Path:
    """The folder that all worktrees of a repository share."""
    named = _beginning(mark)
    if not named.startswith("gitdir:"):
        return mark
    folder = mark.parent / named.removeprefix("gitdir:").strip()
    return folder / _beginning(folder / "commondir").strip()


def _excludes_file(configuration: str) -> str | None:
    """The path in the section `core`, empty if it is set to nothing; None if it is not set."""
    return next(reversed(list(_excludes_files(configuration))), None)


def _excludes_files(configuration: str) -> Iterator[str]:
    section = ""
    for line in configuration.splitlines():
        if heading := _CONFIG_SECTION.match(line):
            section = heading.group(1).lower()
        elif section == "core" and (setting := _EXCLUDES.match(line)):
            yield setting.group(1).strip().strip('"').replace("\\\\", "\\")


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - without a home directory it stays, and no error is raised


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _beginning(file: Path) -> str:
    """The beginning of a small file; nothing if it is none or cannot be read."""
    if not os.path.isfile(file):  # noqa: PTH113 - in a folder that may not be searched there is none
        return ""
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as opened:
            return opened.read(_LONGEST)
    except OSError:
        return ""


NAME = ".gitignore"


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules of one file for what lies below a folder, and those it overrules."""

    folder: bytes
    patterns: Sequence[Pattern]
    outer: IgnoreRules | None

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Is this path, below the folder, left out? What is below an ignored folder is not asked about."""
        encoded = _encoded(path)
        name = encoded.rpartition(b"/")[2]
        rules: IgnoreRules | None = self
        while rules is not None:
            below = encoded[len(rules.folder) + 1 :]
            for pattern in rules.patterns:
                if pattern.matches(below, name, is_folder=is_folder):
                    return not pattern.takes_in
            rules = rules.outer
        return False


Found = tuple[IgnoreRules | None, list[SkippedFile]]
"""The rules that hold somewhere, and what is wrong with the files they stand in."""


def read_ignore_rules(folder: Path, outer: IgnoreRules | None) -> Found:
    """The rules that hold in a folder: its own, if it has a `.gitignore`, before the outer ones."""
    return _read(folder / NAME, folder, outer)


def repository_rules(root: Path, outer: IgnoreRules | None, within: Sequence[Path] | None) -> Found:
    """The rules that hold at the root of a repository besides those of its `.gitignore`: the user's and its own.

    With `within`, the user's are not looked at, nor what lies outside these folders.
    """
    if within is None:
        files = [personal_excludes(root), own_excludes(root)]
    else:
        files = [own_excludes(root)] if is_within(root, within) else []
    rules: IgnoreRules | None = outer
    problems: list[SkippedFile] = []
    for file in files:
        if file.is_file() and (within is None or is_within(file, within)):
            rules, wrong = _read(file, root, rules)
            problems += wrong
    return rules, problems


def outer_rules(top: Path, root: Path, within: Sequence[Path] | None) -> Found:
    """The rules of the repository at `root` that hold in a folder of it.

    Without a repository there are none, nor for a folder that is itself ignored: whoever names it wants it read.
    """
    if not os.path.exists(root / MARK):  # noqa: PTH110 - a folder that may not be searched is no error
        return None, []
    rules, problems = repository_rules(root, None, within)
    folder = root  # from here down to the folder, which reads its own
    for name in top.relative_to(root).parts:
        if within is None or is_within(folder, within):
            rules, wrong = read_ignore_rules(folder, rules)
            problems += wrong
        folder /= name
        if rules is not None and rules.ignores(str(folder), is_folder=True):
            return None, problems
    return rules, problems


def _read(file: Path, folder: Path, outer: IgnoreRules | None) -> Found:
    source = Source(file, room="")
    try:
        opened = open_file(source, LARGEST_TEXT)
        if isinstance(opened, SkippedFile):
            return outer, [opened]
        with opened:
            data = opened.read(LARGEST_TEXT)
    except FileNotFoundError:
        return outer, []
    except OSError as error:
        return outer, [SkippedFile(printable(source.name), f"unreadable: {error.strerror}")]
    patterns = read_patterns(data)
    too_long = any(len(line) > LONGEST_LINE for line in data.split(b"\n"))
    problems = [source.skipped(f"patterns of more than {LONGEST_LINE:,} bytes are not heeded")] if too_long else []
    return (IgnoreRules(_encoded(str(folder)).rstrip(b"/"), patterns, outer) if patterns else outer), problems


def _encoded(path: str) -> bytes:
    """The path as Git has it."""
    return os.fsencode(path.replace(os.sep, "/"))


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

    In folders, left out are hidden files, what Git ignores there, dependencies, caches, symbolic links, files of other
    kinds, and those that are no notes (`unwanted.py`). Nothing is yielded twice. Problems are yielded, never raised.
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
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_link:
        return "symbolic link"
    if entry.is_folder and entry.name in _DEPENDENCIES:
        return "cache or dependencies"
    if entry.is_folder and is_tool_output(entry.path):
        return "output of tools"
    if rules is not None and rules.ignores(str(entry.path), is_folder=entry.is_folder):
        return "ignored by .gitignore"
    if templates is not None and templates.hold(entry.path):
        return TEMPLATE
    if entry.is_folder:
        return None
    if not entry.is_file:
        return "not a regular file"
    fault = unstorable(str(entry.path))
    if fault is not None:
        return f"its name {fault}"
    return _reason_in_file(entry)


def _reason_in_file(entry: _Entry) -> str | None:
    """Why a file is left out that could be read."""
    reason = reason_by_name(entry.name)
    if reason is not None:
        return reason
    suffix = entry.path.suffix.lower()
    if suffix not in SUFFIXES:
        return "not a kind of file that is read"
    return None if suffix == TRANSCRIPT else reason_by_beginning(entry.path)


def _skipped(path: Path, reason: str) -> SkippedFile:
    return SkippedFile(printable(str(path)), reason)


def _unreadable(path: Path, error: OSError) -> SkippedFile:
    return _skipped(path, f"unreadable: {error.strerror}")
