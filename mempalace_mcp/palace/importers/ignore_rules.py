"""What is ignored in a folder: by `.palaceignore` and `.gitignore` files, and by what a repository and its user exclude
in Git."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.palace.importers.documents import SkippedFile, Source
from mempalace_mcp.palace.importers.files import LARGEST_TEXT, is_within, open_file, printable
from mempalace_mcp.palace.importers.gitignore import LONGEST_LINE, Pattern, read_patterns

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
OWN = ".palaceignore"
"""As a `.gitignore`, for the palace alone; its rules are asked first."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules of one file for what lies below a folder, and those it overrules. `name` is the kind of file."""

    name: str
    folder: bytes
    patterns: Sequence[Pattern]
    outer: IgnoreRules | None

    def ignores(self, path: str, *, is_folder: bool) -> str | None:
        """The kind of file that leaves this path, below the folder, out; None if it is not left out. What is below an
        ignored folder is not asked about."""
        encoded = _encoded(path)
        name = encoded.rpartition(b"/")[2]
        rules: IgnoreRules | None = self
        while rules is not None:
            below = encoded[len(rules.folder) + 1 :]
            for pattern in rules.patterns:
                if pattern.matches(below, name, is_folder=is_folder):
                    return None if pattern.takes_in else rules.name
            rules = rules.outer
        return None


Found = tuple[IgnoreRules | None, list[SkippedFile]]
"""The rules that hold somewhere, and what is wrong with the files they stand in."""


def read_ignore_rules(folder: Path, outer: IgnoreRules | None) -> Found:
    """The rules that hold in a folder: those of its `.palaceignore` and `.gitignore`, before the outer ones."""
    rules, problems = _read(folder / NAME, folder, outer)
    rules, more = read_own_rules(folder, rules)
    return rules, [*problems, *more]


def read_own_rules(folder: Path, outer: IgnoreRules | None) -> Found:
    """As `read_ignore_rules`, of its `.palaceignore` alone. One that is there and cannot be read ignores everything."""
    rules, problems = _read(folder / OWN, folder, outer, OWN)
    if rules is outer and problems and os.path.lexists(folder / OWN):
        return IgnoreRules(OWN, _encoded(str(folder)).rstrip(b"/"), read_patterns(b"*"), outer), problems
    return rules, problems


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

    Without a repository there are none, nor for a folder that is itself ignored: it was named, so it is to be read.
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


def _read(file: Path, folder: Path, outer: IgnoreRules | None, kind: str = NAME) -> Found:
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
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):  # as shells of Windows write it
        data = data.decode("utf-16", "replace").encode()
    patterns = read_patterns(data)
    too_long = any(len(line) > LONGEST_LINE for line in data.split(b"\n"))
    problems = [source.skipped(f"patterns of more than {LONGEST_LINE:,} bytes are not heeded")] if too_long else []
    root = _encoded(str(folder)).rstrip(b"/")
    return (IgnoreRules(kind, root, patterns, outer) if patterns else outer), problems


def _encoded(path: str) -> bytes:
    """The path as Git has it."""
    return os.fsencode(path.replace(os.sep, "/"))
