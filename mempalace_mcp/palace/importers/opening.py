"""Opening what a real path names, and nothing else: no symbolic link is followed on the way, whoever puts one there.

Paths are resolved once, when they are found. What is opened later is opened name by name from the root of the file
system, each name in the folder that is open already, so that a folder that has been exchanged for a link since is an
error and not a way out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_IS_CONFINED = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a FIFO would wait for its writer
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_PASSAGE = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


def open_file(path: Path) -> int:
    """A descriptor to read a file by; it may be a device or a pipe, and has not been waited for.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FILE)


def open_folder(path: Path) -> int:
    """A descriptor to list a folder by.

    Raises:
        OSError: it cannot be opened, or a link is on the way.
    """
    return _open(path, _FOLDER)


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Does this real path lie in one of the folders, or is it one of them?"""
    return any(path.is_relative_to(os.path.realpath(folder)) for folder in folders)


def _open(path: Path, flags: int) -> int:
    if not _IS_CONFINED:
        return os.open(path, flags)
    folder = os.open(path.anchor, _PASSAGE)
    try:
        *passages, name = path.parts[1:] or (".",)
        for passage in passages:
            inner = os.open(passage, _PASSAGE | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
