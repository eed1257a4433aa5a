"""Backups with a date in their names, of which only the latest are kept."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.clock import format_instant, now
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.core.files import explain_os_error, is_directory, sync_directory
from mempalace_mcp.storage.sqlite.backup import BackupReport, Progress
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.inspection import ask

_DATED = re.compile(r"palace-\d{4}-\d\d-\d\d-\d{6}\.db")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A backup that was made, and the older ones that were removed for it."""

    report: BackupReport
    removed: tuple[Path, ...]


def back_up_dated(database: Database, directory: Path, keep: int, progress: Progress | None = None) -> Rotation:
    """Back up to a new file in the directory, and keep the latest `keep` backups of this palace there.

    Older ones are removed when the new one is complete. Other files stay, and so do backups of other palaces.

    Raises:
        InvalidArgument: the directory is none.
        PalaceError: as `Database.backup`; then nothing is removed. An older backup cannot be removed.
    """
    if not is_directory(directory):
        raise InvalidArgument(
            f"{directory} is no directory", argument="destination", hint="With --keep name a directory that exists."
        )
    moment = format_instant(now())[:19].replace(":", "").replace("T", "-")
    report = database.backup(directory / f"palace-{moment}.db", progress)
    removed = dated_backups(directory, _palace_of(report.path))[keep:]
    try:
        for file in removed:
            file.unlink(missing_ok=True)
        sync_directory(directory)
    except OSError as error:
        raise explain_os_error(error, directory) from error
    return Rotation(report, tuple(removed))


def dated_backups(directory: Path, palace: str | None) -> list[Path]:
    """The backups of the palace with that id, the latest first. Names alone prove nothing: each file is asked."""
    files = (Path(entry.path) for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
    named = sorted((file for file in files if _DATED.fullmatch(file.name)), reverse=True)
    return [file for file in named if palace is not None and _palace_of(file) == palace]


def _palace_of(file: Path) -> str | None:
    """The id of the palace in a file; None if there is none that can be read."""
    try:
        return ask(file, lambda connection: str(connection.execute("SELECT palace_id FROM state").fetchone()[0]))
    except (PalaceError, TypeError):
        return None
