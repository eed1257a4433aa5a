"""The properties of a note, and the wing and the room of a file, from the folders around it.

Front matter is read line by line and not as YAML or TOML, since real front matter often is neither: templates leave
`{{date}}` in it, values hold colons, lines are indented by tabs. Such a note loses nothing but that line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import MAX_NAME_CHARACTERS, read_name

_LONGEST_HEAD = 16_000
_MOST_LINES = 200
_KEY = r"[^\W\d_][\w ./()-]{0,59}?"
_YAML = re.compile(rf"[\"']?({_KEY})[\"']?[ \t]*:(?:[ \t]+(.*)|$)")
_TOML = re.compile(rf"[\"']?({_KEY})[\"']?[ \t]*=[ \t]*(.*)")
_BELOW = re.compile(r"[ \t]+(?:-[ \t]+)?([^\s#-].*)|-[ \t]+(.*)")
_FIELD = re.compile(
    rf"#\+({_KEY}):[ \t]*(.*)|:({_KEY}):[ \t]+(.*)|\.\. ({_KEY}):[ \t]+(.*)|(?:-[ \t]+)?({_KEY})::(?:[ \t]+(.*)|$)"
)
_PLAIN = re.compile(rf"(?:[-*+][ \t]+)?(?:\*\*|__)?({_KEY})(?:\*\*|__)?:(?:\*\*|__)?[ \t]+(.*)")
_NO_PROPERTY = re.compile(r"\s*$|#{1,6} |\*+ |[=\-~^*+\"#]{3,}\s*$|<!--|-->|:(?:PROPERTIES|END):", re.IGNORECASE)
_UNDERLINE = re.compile(r"[=\-~^*+\"#]{3,}\s*$")
_PLACEHOLDER = re.compile(r"\{\{-?\s*(?:date|time|title)\s*(?::[^}\n]*)?\}\}|<%|^\{\{", re.IGNORECASE)
"""Of Obsidian, of Templater, and of any program where a value begins with one."""

_OPENINGS = {"---": ("---", "..."), "+++": ("+++",)}
_JOPLIN_TYPE = re.compile(r"\ntype_: \d+\s*$")
_LONGEST_TAIL = 4_000


@dataclass(frozen=True, slots=True)
class Property:
    """A name and what it is set to, as written, and the number of its line."""

    key: str
    value: str
    line: int


def read_properties(content: str) -> list[Property]:
    """The properties of a note in the order in which they stand.

    Known are front matter in YAML (`---`), TOML (`+++`) and JSON; fields of org (`#+DATE:`, `:CREATED:`), reStructured
    Text (`:date:`, `.. date:`), Logseq (`date::`); a block of `Date: value` lines at the beginning or below the title,
    if a blank line ends it; and what Joplin writes at the end.
    """
    head = content[:_LONGEST_HEAD]
    lines = [line.rstrip("\r") for line in head.split("\n", _MOST_LINES)[:_MOST_LINES]]
    opening = lines[0].rstrip()
    if opening in _OPENINGS:
        return list(_front_matter(lines, opening))
    if opening.startswith("{"):
        return _json(head)
    found = list(_fields(lines))
    return found or list(_joplin(content))


def has_placeholder(content: str) -> bool:
    """Is it a template: do its properties or the first line of its text leave something to be filled in?"""
    head = content[:_LONGEST_HEAD]
    lines = head.split("\n", _MOST_LINES)[:_MOST_LINES]
    opening = lines[0].rstrip()
    text = islice(lines, _end_of_front_matter(lines, opening) + 1 if opening in _OPENINGS else 0, None)
    first = next((line for line in text if line.strip()), "")
    written = [first.lstrip("# "), *(each.value.strip("\"'") for each in read_properties(head))]
    return any(_PLACEHOLDER.search(value) for value in written)


def _front_matter(lines: list[str], opening: str) -> Iterator[Property]:
    """Nothing if it is never closed. What is indented or in a table belongs to something else."""
    for number in range(1, _end_of_front_matter(lines, opening)):
        line = lines[number]
        if opening == "+++" and line.startswith("["):
            return
        found = (_YAML if opening == "---" else _TOML).match(line)
        if not found:
            continue
        value = _without_comment(found.group(2) or "")
        below = _BELOW.match(lines[number + 1]) if not value else None
        if below:
            value = _without_comment(below.group(1) or below.group(2) or "")
        yield Property(found.group(1), value, number + 1)


def _end_of_front_matter(lines: list[str], opening: str) -> int:
    """The place of the line that closes it; 0 if none does."""
    closing = _OPENINGS[opening]
    return next((number for number, line in enumerate(lines) if number and line.rstrip() in closing), 0)


def _json(head: str) -> list[Property]:
    try:
        read, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return []
    if not isinstance(read, dict):
        return []
    numbers = {line.split('"')[1]: number for number, line in enumerate(head.split("\n"), 1) if line.count('"') > 1}
    return [
        Property(key, str(value), numbers.get(key, 1))
        for key, value in read.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    ]


def _fields(lines: list[str]) -> Iterator[Property]:
    """Fields before the text begins; a title, underlined or marked, may be before them."""
    number = 0
    while number < len(lines):
        line = lines[number]
        field = _FIELD.match(line)
        if field and not _NO_PROPERTY.match(line):
            key, *value = [group for group in field.groups() if group is not None]
            yield Property(key, "".join(value).strip(), number + 1)
        elif _PLAIN.match(line):
            block = list(_block(lines, number))
            number += len(block)
            if number < len(lines) and lines[number].strip():
                return
            yield from block
        elif not _NO_PROPERTY.match(line) and not (number + 1 < len(lines) and _UNDERLINE.match(lines[number + 1])):
            return
        number += 1


def _block(lines: list[str], start: int) -> Iterator[Property]:
    """The lines from here on that are a name, a colon and a value."""
    for number, line in enumerate(islice(lines, start, None), start + 1):
        found = _PLAIN.match(line)
        if not found:
            return
        yield Property(found.group(1), found.group(2).strip(), number)


def _joplin(content: str) -> Iterator[Property]:
    tail = content[-_LONGEST_TAIL:]
    if _JOPLIN_TYPE.search(tail):
        first = content.count("\n", 0, max(0, len(content) - _LONGEST_TAIL)) + 1
        for number, line in enumerate(tail.split("\n"), first):
            if found := _YAML.match(line):
                yield Property(found.group(1), (found.group(2) or "").strip(), number)


def _without_comment(value: str) -> str:
    """The value without a comment behind it; a hash within quotation marks is none."""
    quote = value[:1]
    end = value.find(quote, 1) if quote in ("'", '"') else -1
    return value[: end + 1] if end > 0 else re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


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

    A worktree belongs to its repository, and so does a subfolder, as far as the disk or the path tells.
    """
    path = str(folder)
    parts = _parts(repository_of(path) or path)
    home = _home_length(parts)
    parts = _without_worktree(parts, home)
    if not parts:
        return _NOWHERE
    return _HOME if len(parts) == home else _name(parts[-1], _NOWHERE)


def room_of(path: Path, root: Path) -> str:
    """The name of the folder that holds the file; `NOTES` for files at the root itself."""
    return NOTES if path.parent == root else _name(path.parent.name, NOTES)


def is_home(folder: str) -> bool:
    """Is this somebody's home folder, or around it?"""
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


def _name(text: str, otherwise: str) -> str:
    """The text if it can name a wing or room, else as much of it as can."""
    cleaned = "".join(character if character.isprintable() else " " for character in text)[:MAX_NAME_CHARACTERS]
    try:
        return read_name(cleaned, "name").shown
    except InvalidArgument:
        return otherwise
