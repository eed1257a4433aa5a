"""The palace's directory and files: are they there, may we write them, may others read them, is there space?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.finding import Finding, Patient
from mempalace_mcp.core.files import is_file
from mempalace_mcp.runtime import reasons
from mempalace_mcp.runtime.checks import Limits
from mempalace_mcp.storage.database import DATABASE_FILE
from mempalace_mcp.storage.privacy import Exposed, exposed, own_paths


def examine_files(patient: Patient) -> Iterator[Finding]:
    """Presence, permissions, space.

    Raises:
        StorageError: the palace cannot be reached, so there is nothing to examine.
    """
    directory = patient.directory
    if not is_file(directory / DATABASE_FILE):
        message = f"there is no {DATABASE_FILE} in {directory}"
        yield Finding("palace_absent", message, "Restore a backup, or name the palace with --palace or PALACE_PATH.")
    if not directory.is_dir():
        return
    yield from _permissions(directory)
    free = shutil.disk_usage(directory).free
    if free < Limits().free_bytes:
        yield Finding.of(reasons.DISK_LOW, f"{show.size(free)} are left on the disk of {directory}")


def _permissions(directory: Path) -> Iterator[Finding]:
    """What is not the palace's in its directory is nobody's business here."""
    if closed := [path for path in own_paths(directory) if not os.access(path, os.R_OK | os.W_OK)]:
        yield Finding.of(reasons.STORAGE_READ_ONLY, f"this user cannot write {_names(closed)}")
    if found := list(exposed(directory)):
        names = _names(each.path for each in found)
        message, remedy = f"other users have access to {names}", f"chmod go-rwx {directory} and these files."
        yield Finding("permissions", message, remedy, partial(_close_to_others, found))


def _close_to_others(found: Iterable[Exposed]) -> str:
    for each in found:
        each.path.chmod(each.closed)
    return f"closed {_names(each.path for each in found)} to other users"


def _names(files: Iterable[Path]) -> str:
    return ", ".join(sorted(file.name for file in files))
