"""The conversations that agents have kept on this machine, by what the files say of themselves: none is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mempalace_mcp.palace import importers
from mempalace_mcp.palace.importers.readers import READERS
from mempalace_mcp.setup.machine import Machine


@dataclass(frozen=True, slots=True)
class History:
    """What one agent has kept: where, in how many files and bytes, and when the first and the last was written."""

    agent: str
    label: str
    paths: tuple[Path, ...]
    files: int
    size: int
    first: datetime
    last: datetime

    @property
    def folder(self) -> Path:
        """The folder or file that holds all of it."""
        return Path(os.path.commonpath(self.paths))

    def is_of(self, client: str) -> bool:
        """Is the agent this client, by its id? (A reader's name may say more, as in `roo-code`.)"""
        return self.agent == client or self.agent.startswith(f"{client}-")


def histories(machine: Machine) -> list[History]:
    """The histories that can be imported, in the order of the readers; those without any file are left out."""
    home = importers.Machine(machine.home, machine.environment)
    found = []
    for reader in READERS:
        paths = tuple(dict.fromkeys(place for place in reader.places(home) if place.exists()))
        statistics = [each for path in paths for each in _statistics(path, reader.suffixes)]
        if statistics:
            times = [datetime.fromtimestamp(time, UTC) for time, _ in statistics]
            size = sum(each for _, each in statistics)
            found.append(History(reader.name, reader.label, paths, len(times), size, min(times), max(times)))
    return found


def _statistics(path: Path, suffixes: frozenset[str]) -> Iterator[tuple[float, int]]:
    """When each file was written, and its size."""
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.suffix.lower() in suffixes)
    for file in files:
        try:
            status = file.stat()
            journal = file.with_name(f"{file.name}-wal")  # where SQLite writes first
            yield (
                (max(status.st_mtime, journal.stat().st_mtime) if journal.exists() else status.st_mtime),
                status.st_size,
            )
        except OSError:  # it is gone, or not for this user
            continue
