"""The files of a palace are its user's alone. New ones are made so; here older, looser ones are closed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_OURS = re.compile(r"palace\.db(-wal|-shm)?|[a-z]+\.lock|daemon\.json|daemon\.log(\.\d+)?|index")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def close_to_others(directory: Path) -> None:
    """Take from the palace's files and index what others may do with them, and from its directory that others may put
    files there; what cannot be taken is warned of. Reading the directory is left to them, since it may hold more.
    """
    if os.name == "nt":
        return
    for path, forbidden in _found(directory):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & forbidden:
                path.chmod(mode & ~forbidden)
                logger.warning("%s was open to other users (%o); it no longer is", path, mode)
        except FileNotFoundError:
            continue  # another process has just removed it
        except OSError as error:
            logger.warning("%s may be open to other users, and cannot be closed: %s", path, error.strerror)


def _found(directory: Path) -> Iterator[tuple[Path, int]]:
    """What is to be closed, each with the bits that its mode must not have."""
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        yield directory, 0 if directory.stat().st_mode & stat.S_ISVTX else _OTHERS_WRITE
        for entry in scan:
            if _OURS.fullmatch(entry.name) and not entry.is_symlink():
                yield Path(entry.path), _OTHERS
