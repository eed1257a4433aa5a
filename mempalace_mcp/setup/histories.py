"""The conversations that clients have kept on this machine, by what the files say of themselves: none is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mempalace_mcp.setup.machine import Machine


@dataclass(frozen=True, slots=True)
class History:
    """What one folder holds: how many sessions, in how many bytes, and when the first and the last was written."""

    path: Path
    sessions: int
    size: int
    first: datetime
    last: datetime


_FOLDERS: dict[str, tuple[str, str]] = {"claude-code": ("{claude}/projects", "*/*.jsonl")}
"""By the ids of clients: the folder, and which files below it are sessions."""


def histories(machine: Machine, client: str) -> list[History]:
    """The histories of a client that can be imported; those without any session are left out."""
    if client not in _FOLDERS:
        return []
    template, pattern = _FOLDERS[client]
    folder = machine.path(template)
    found = list(_statistics(folder, pattern))
    if not found:
        return []
    times = [datetime.fromtimestamp(each.st_mtime, UTC) for each in found]
    return [History(folder, len(found), sum(each.st_size for each in found), min(times), max(times))]


def _statistics(folder: Path, pattern: str) -> Iterator[os.stat_result]:
    for file in folder.glob(pattern):
        try:
            yield file.stat()
        except OSError:  # it is gone, or not for this user
            continue
