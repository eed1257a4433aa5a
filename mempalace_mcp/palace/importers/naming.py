"""The wing and the room of a file, from the folders around it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import MAX_NAME_CHARACTERS, read_name

NOTES = "notes"
SESSIONS = "sessions"
SUBAGENTS = "subagents"
MEMORY = "memory"

_NOWHERE = "files"
"""The wing of what belongs to the root of a drive."""
_HOME = "home"

_WORKTREES = frozenset({"worktree", "worktrees"})
_BESIDE = re.compile(r"(.+?)[-_.]worktrees", re.IGNORECASE)
"""`ferry-worktrees/fix` and `ferry.worktrees/fix` are worktrees of `ferry`."""
_OF_PROGRAMS = re.compile(r"\.[\w-]*worktrees", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:|\?|\.")
_GITDIR = re.compile(r"gitdir:\s*(.+?)[/\\]\.git[/\\]worktrees[/\\][^/\\]+\s*")
_LONGEST_POINTER = 8_192
_PROGRAMS = frozenset({"opencode", "vibe-kanban"})
"""Programs that keep worktrees of others' repositories in a folder of their own that is not hidden."""
_NAMED_LAST = frozenset({".codex", *_PROGRAMS})
_WORKSPACES = ("conductor", "workspaces")
_WORKTREE_OF_SLUG = re.compile(r"--(?:[a-z]+-)?worktrees-")
_DRIVE_OF_SLUG = re.compile(r"\A(?:[A-Za-z]-|-mnt-[a-z])(?=-)")
_SHELVES = frozenset(
    {"code", "desktop", "dev", "documents", "git", "github", "projects", "repos", "repositories", "src", "work"}
    | {"workspace", "workspaces"}
)
"""Folders that hold repositories side by side."""


def project_folder(folder: Path) -> Path:
    """The root of the repository that holds the folder, or the folder itself if none does."""
    for candidate in (folder, *folder.parents):
        if os.path.exists(candidate / ".git"):  # noqa: PTH110 - a folder that may not be searched is no error
            return candidate
    return folder


def wing_of(folder: Path | str) -> str:
    """The name of the project that a folder belongs to. The path may be of another system, as transcripts record them.

    A worktree or a subfolder belongs to its repository, if the disk or the path shows which one that is.
    """
    path = str(folder)
    parts = _parts(repository_of(path) or path)
    home = _home_length(parts)
    parts = _without_worktree(parts, home)
    if not parts:
        return _NOWHERE
    return _HOME if len(parts) == home else name_of(parts[-1], _NOWHERE)


def room_of(path: Path, root: Path) -> str:
    """The name of the folder that holds the file; `NOTES` for files at the root itself."""
    return NOTES if path.parent == root else name_of(path.parent.name, NOTES)


def is_home(folder: str) -> bool:
    """Is this the home folder of a user, or a folder around it?"""
    parts = _parts(folder)
    return len(parts) <= max(1, _home_length(parts))


def is_inside(folder: str, outer: str) -> bool:
    """Is the folder below the other one, by their paths?"""
    inner_parts, outer_parts = _parts(folder), _parts(outer)
    return len(inner_parts) > len(outer_parts) and inner_parts[: len(outer_parts)] == outer_parts


def named_by_slug(slug: str) -> str:
    """A guess at the name of a folder whose path was written with `-` for all but letters and digits."""
    path = _DRIVE_OF_SLUG.sub("", _WORKTREE_OF_SLUG.split(slug)[0])
    parts = path.strip("-").split("-")
    home = _home_length(parts)
    rest = parts[home:]
    while len(rest) > 1 and (rest[0].lower() in _SHELVES or not rest[0]):
        rest = rest[1:]
    return "-".join(rest) or "/".join(["", *parts])


def repository_of(path: str) -> str | None:
    """The folder of the repository around a path that exists here; that of the main one for a worktree of Git's."""
    if not Path(path).is_absolute() or not _is_folder(path):
        return None
    root = project_folder(Path(path))
    if root == Path.home() or not os.path.exists(root / ".git"):  # noqa: PTH110 - as above
        return None  # a home folder under version control is no project
    return _main_repository(root) or str(root)


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112 - a path that no system can name is no error
    except ValueError:
        return False


def _main_repository(root: Path) -> str | None:
    """Where the pointer of a worktree leads; None if the root is none."""
    if not (root / ".git").is_file():
        return None
    try:
        with (root / ".git").open("r", encoding="utf-8") as pointer:
            match = _GITDIR.match(pointer.read(_LONGEST_POINTER))
    except (OSError, ValueError):
        return None
    return None if match is None else os.path.normpath(root / match.group(1))


def _parts(path: str) -> list[str]:
    """The names in a path, without the drive."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    if path.startswith(("\\\\", "//")):
        parts = parts[2:]  # server and share
    while parts and _DRIVE.fullmatch(parts[0]):
        parts = parts[1:]
    if len(parts) > 1 and parts[0] == "mnt" and len(parts[1]) == 1:
        parts = parts[2:]  # a drive as WSL sees it
    return parts


def _home_length(parts: list[str]) -> int:
    """How many names a home folder at the beginning of the path takes; 0 if there is none."""
    own = _parts(str(Path.home()))
    if own and parts[: len(own)] == own:
        return len(own)
    if parts[:1] == ["root"]:
        return 1
    return 2 if len(parts) > 1 and parts[0].lower() in ("home", "users", "documents and settings") else 0


def _without_worktree(parts: list[str], home: int) -> list[str]:
    """The path of the repository if the path is that of a worktree or below it, else the path itself."""
    for position, part in enumerate(parts[:-1]):
        inner = parts[position + 1 :]
        if part.lower() in _WORKTREES:
            return _owner(parts[:position], inner, home)
        if part.lower() == ".worktrees" and position > home:
            return parts[:position]
        if _OF_PROGRAMS.fullmatch(part):
            return [*parts[: position + 1], inner[0]]
        if (parts[position - 1].lower(), part.lower()) == _WORKSPACES and position > 0:
            return [*parts[: position + 1], inner[0]]
        if part.startswith(".") and position > max(home, 1) and parts[position - 1].lower() not in _SHELVES:
            return parts[:position]  # what programs keep inside a project
        if (match := _BESIDE.fullmatch(part)) is not None:
            return [*parts[:position], match.group(1)]
    return parts


def _owner(outer: list[str], inner: list[str], home: int) -> list[str]:
    """Whose `worktrees` these are: of the repository around them, or, in a folder of a program, of one named inside."""
    is_hidden = bool(outer) and (outer[-1].startswith(".") or outer[-1].lower() in _PROGRAMS)
    around = outer[:-1] if is_hidden else outer
    is_elsewhere = bool(outer) and outer[-1].lower() in _PROGRAMS
    if len(around) > home and around[-1].lower() not in _SHELVES and not is_elsewhere:
        return around
    # ~/.codex/worktrees/4f2a/ferry names the repository last, ~/.cursor/worktrees/ferry/x7f first
    is_last = is_hidden and outer[-1].lower() in _NAMED_LAST and len(inner) > 1
    return [*around, inner[1 if is_last else 0]]


def name_of(text: str, otherwise: str) -> str:
    """The text if it can name a wing or room, else as much of it as can."""
    cleaned = "".join(character if character.isprintable() else " " for character in text)[:MAX_NAME_CHARACTERS]
    try:
        return read_name(cleaned, "name").shown
    except InvalidArgument:
        return otherwise
