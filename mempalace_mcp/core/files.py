"""Durable directories and files, and the palace's errors for those of the operating system."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp.core import platform
from mempalace_mcp.core.errors import PalaceMissing, StorageError, StorageFull, StorageReadOnly

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600

LOCK_SUFFIX = ".lock"
"""Of files that hold nothing but the number of the process that has the lock."""

_GONE = (errno.ENOENT, errno.ENOTDIR)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def create_directory(directory: Path) -> None:
    """Create the directory, and those above it that are missing, for this user alone; durable on return.

    Raises:
        StorageReadOnly, StorageFull, StorageError: it cannot be created.
    """
    try:
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
            sync_directory(path.parent)
    except OSError as error:
        raise explain_os_error(error, directory) from error


def create_file(file: Path) -> None:
    """Create an empty file for this user alone, never touching one that exists; durable on return.

    Raises:
        FileExistsError: something is there.
        StorageReadOnly, StorageFull, StorageError: it cannot be created.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        raise
    except OSError as error:
        raise explain_os_error(error, file) from error
    sync_directory(file.parent)


def is_file(path: Path) -> bool:
    """Is there a regular file?

    Raises:
        StorageError: the path is too long, or leads through a directory that this user may not open.
    """
    with _reaching(path):
        return path.is_file()


def is_directory(path: Path) -> bool:
    """Is there a directory?

    Raises:
        StorageError: as `is_file`.
    """
    with _reaching(path):
        return path.is_dir()


@contextlib.contextmanager
def _reaching(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = f"Check the path, and that this user may open {path.parent}."
        raise StorageError(f"{path} cannot be reached: {error.strerror}", hint=hint) from error


def sync_directory(directory: Path) -> None:
    """Make the names in the directory durable, where the system can."""
    if not platform.CAN_SYNC_DIRECTORIES:
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse, and have no other way
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def permission_hint(path: Path) -> str:
    """The hint for a file or directory that this user may not write."""
    owner = foreign_owner(path)
    if owner is None:
        return f"Make {path.parent} and its files writable for this user."
    if path.suffix == LOCK_SUFFIX:
        return (
            f"It belongs to {owner}: give it to this user, or remove it while nobody uses the palace. It holds no data."
        )
    return f"It belongs to {owner}: give it to this user, or let {owner} run this."


def foreign_owner(path: Path) -> str | None:
    """The owner of a file, if that is another user than this process's."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    if not platform.HAS_FILE_MODES or owner == platform.user_id():
        return None
    return f"user {platform.user_name(owner)}"


def explain_os_error(error: OSError, path: Path) -> StorageError:
    """The palace's error for one of the operating system about a file or directory of the palace."""
    if error.errno in _GONE:
        return PalaceMissing(f"{path} is not there any more", hint="Put it back, then reconnect.")
    if error.errno in _FORBIDDEN:
        return StorageReadOnly(f"{path} cannot be written: {error.strerror}", hint=permission_hint(path))
    if error.errno in _FULL:
        return StorageFull(f"no space left for {path}", hint="Free some space, then try again.")
    return StorageError(f"{path} cannot be used: {error.strerror}", hint="Check the path and the file system.")
