"""What SQLite's result codes mean for the palace."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

from mempalace_mcp.core.errors import (
    Busy,
    PalaceCorrupt,
    PalaceError,
    PalaceMissing,
    StorageError,
    StorageFull,
    StorageReadOnly,
)
from mempalace_mcp.core.files import foreign_owner, how_to_be_let
from mempalace_mcp.storage.connection import is_there

_PRIMARY = 0xFF
"""Extended result codes carry the primary one in their lowest byte."""
_NEARLY_FULL_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; SQLITE_MISUSE for errors that stem from the Python module itself."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & _PRIMARY


def is_passing(error: sqlite3.Error) -> bool:
    """Is another connection in the way, so that the same transaction may succeed later?"""
    return code_of(error) in _PASSING


def explain(error: sqlite3.Error, path: Path) -> PalaceError:
    """The palace's error for one of SQLite's about the database at `path`."""
    code = code_of(error)
    if not is_there(path):
        return PalaceMissing(f"{path} is not there any more", hint="Put the file back, then reconnect.")
    if code in _PASSING:
        return Busy(f"another program holds {path} ({error})", hint="Try again.")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path.parent)):
        return StorageFull(
            f"no space left for {path}; nothing of this call was written", hint="Free some space, then try again."
        )
    if code in _FORBIDDEN:
        files = [path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))]
        file = next(filter(foreign_owner, files), path)
        return StorageReadOnly(f"{file} cannot be written ({error})", hint=how_to_be_let(file))
    if code in _UNREADABLE:
        return PalaceCorrupt(
            f"SQLite cannot read {path} ({error})", hint="Stop every server of this palace and restore a backup."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(f"reading or writing {path} failed ({error})", hint="Check the disk and the system log.")
    return PalaceError(
        f"SQLite refused a statement ({error})", hint="This is a fault of the program; please report it."
    )


def _is_full(directory: Path) -> bool:
    """Is there no room for this user? A quota shows only to who writes."""
    if hasattr(os, "statvfs"):
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < _NEARLY_FULL_BYTES:
            return True
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:
            probe.write(bytes(_NEARLY_FULL_BYTES))
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in _FULL
    return False
