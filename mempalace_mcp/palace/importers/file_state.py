"""The state of a file, by which an unchanged one is recognized without reading all of it."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path

from mempalace_mcp.palace.importers.files import DATABASE_MAGIC, open_regular_file

READERS = 3
"""To be raised when the readers find more in the same files: then all of them are read anew."""

_STATE_HEAD, _TAIL = 1_024, 8_192
_DIGEST_BYTES = 16


def state_of(path: Path, include_tools: bool = False) -> str | None:
    """Size, time of the last change, and a digest of the beginning and the end; None if the file cannot be read.

    Programs append to their files or write them anew, so that either the size or the end is another one. Of a database
    the size and time of its log count too. A file that was read without what tools returned is another one with it.
    """
    try:
        descriptor = open_regular_file(path)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            head = file.read(_STATE_HEAD)
            digest = blake2b(head, digest_size=_DIGEST_BYTES)
            file.seek(max(0, status.st_size - _TAIL))
            digest.update(file.read(_TAIL))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    log = _log_state(path) if head.startswith(DATABASE_MAGIC) else ""
    tools = ":tools" if include_tools else ""
    return f"{READERS}:{status.st_size}:{status.st_mtime_ns}:{digest.hexdigest()}{log}{tools}"


def _log_state(path: Path) -> str:
    """The size and time of the log beside an SQLite database, which holds its latest changes."""
    try:
        status = os.lstat(f"{path}-wal")
    except OSError:
        return ""
    return f":{status.st_size}:{status.st_mtime_ns}"
