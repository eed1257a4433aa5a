"""Where a repository keeps what it does not share: the files that exclude more than its `.gitignore` files do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

MARK = ".git"
"""The folder of a repository, or in a worktree the file that names it."""

_LONGEST = 65_536
_SECTION = re.compile(r"\s*\[\s*([\w.-]+)\s*(?:\"[^\"]*\"\s*)?\]")
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
        if heading := _SECTION.match(line):
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
