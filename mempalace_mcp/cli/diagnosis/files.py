"""The palace's directory and files: are they there, may we write them, may others read them, is there space?"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.finding import Finding, Patient
from mempalace_mcp.runtime import reasons
from mempalace_mcp.runtime.checks import Limits
from mempalace_mcp.storage.database import DATABASE_FILE

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def examine_files(patient: Patient) -> Iterator[Finding]:
    """Presence, permissions, space."""
    directory = patient.directory
    if not (directory / DATABASE_FILE).is_file():
        message = f"there is no {DATABASE_FILE} in {directory}"
        yield Finding("palace_absent", message, "Restore a backup, or name the palace with --palace or PALACE_PATH.")
    if not directory.is_dir():
        return
    yield from _permissions(directory)
    free = shutil.disk_usage(directory).free
    if free < Limits().free_bytes:
        yield Finding.of(reasons.DISK_LOW, f"{show.size(free)} are left on the disk of {directory}")


def _permissions(directory: Path) -> Iterator[Finding]:
    files = [directory, *(file for file in directory.iterdir() if file.is_file() and not file.is_symlink())]
    if closed := [file for file in files if not os.access(file, os.R_OK | os.W_OK)]:
        yield Finding.of(reasons.STORAGE_READ_ONLY, f"this user cannot write {_names(closed)}")
    if os.name == "posix" and (exposed := [file for file in files if file.stat().st_mode & _OTHERS]):
        message, remedy = f"other users have access to {_names(exposed)}", f"chmod go-rwx {directory} and its files."
        yield Finding("permissions", message, remedy, partial(_close_to_others, exposed))


def _close_to_others(files: Sequence[Path]) -> str:
    for file in files:
        file.chmod(stat.S_IMODE(file.stat().st_mode) & ~_OTHERS)
    return f"closed {_names(files)} to other users"


def _names(files: Sequence[Path]) -> str:
    return ", ".join(sorted(file.name for file in files))
