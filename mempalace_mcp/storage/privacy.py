"""The files of a palace are its user's alone. New ones are made so; here older, looser ones are closed.

A palace may lie in a folder that holds more, such as a project: what the palace has not made is left as it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_OURS = re.compile(
    r"palace\.db(-wal|-shm)?|(write|daemon|index|embed)\.lock|daemon\.json|daemon\.log(\.\d+)?|tokens\.toml"
)
_INDEX = "index"
_IN_INDEX = re.compile(r"chroma(-\d+|\.json|\.tmp)")
_LOOKED_AT = "tokens.toml"
"""It is refused while others have access, for they may have changed it: closing it is for a person who looks first."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file or folder that others have access to, its mode, and the mode without that."""

    path: Path
    mode: int
    closed: int


def close_to_others(directory: Path) -> None:
    """Take from the palace's files and index what others may do with them, and from its directory that others may put
    files there; what cannot be taken is warned of. Reading the directory is left to them, since it may hold more; if it
    does hold more, all of it is.
    """
    for each in exposed(directory):
        if each.path.name == _LOOKED_AT:
            continue
        if each.path == directory and _holds_more(directory):
            logger.warning(
                "other users may put files into %s (%o), and so replace the palace in it", directory, each.mode
            )
            continue
        try:
            each.path.chmod(each.closed)
            logger.warning("%s was open to other users (%o); it no longer is", each.path, each.mode)
        except FileNotFoundError:
            continue  # another process has just removed it
        except OSError as error:
            logger.warning("%s is open to other users, and cannot be closed: %s", each.path, error.strerror)


def exposed(directory: Path) -> Iterator[Exposed]:
    """What is to be closed."""
    if os.name == "nt":
        return
    for path in own_paths(directory):
        forbidden = _OTHERS_WRITE if path == directory else _OTHERS
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(path.stat().st_mode)
            is_shared = path == directory and mode & stat.S_ISVTX
            if mode & forbidden and not is_shared:
                yield Exposed(path, mode, mode & ~forbidden)


def own_paths(directory: Path) -> Iterator[Path]:
    """The directory, and what in it is the palace's."""
    yield directory
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        for entry in scan:
            if _is_ours(entry):
                yield Path(entry.path)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Is it one of the palace's files, or the folder of its index?"""
    if entry.is_file(follow_symlinks=False):
        return _OURS.fullmatch(entry.name) is not None
    if entry.name != _INDEX or not entry.is_dir(follow_symlinks=False):
        return False
    with contextlib.suppress(OSError), os.scandir(entry.path) as scan:
        return any(_IN_INDEX.fullmatch(inside.name) for inside in scan)
    return False


def _holds_more(directory: Path) -> bool:
    """Is anything there that is not the palace's?"""
    with contextlib.suppress(OSError), os.scandir(directory) as scan:
        return not all(map(_is_ours, scan))
    return False
