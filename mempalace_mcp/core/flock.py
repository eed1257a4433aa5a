"""The kernel's lock on a file, by descriptor, and the number of the process that took it last.

On POSIX it is `flock`, which belongs to the open file and so passes to a child with the descriptor; on Windows a
locked byte. Imports next to nothing: a process that only looks for the holder pays for no more.
"""

from __future__ import annotations

import os
import sys
import time

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MODE = 0o600
_SIGNATURE_BYTES = 20
_LOCKED_BYTE = 1 << 30
"""On Windows a locked byte cannot be read, so it lies far behind the signature."""
_POLL_SECONDS = 0.005


def open_lock(path: str) -> int:
    """A descriptor of the lock file, which is created if it is missing and never removed.

    Raises:
        OSError: it cannot be opened for writing.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), _MODE)


def is_at(descriptor: int, path: str) -> bool:
    """Is the open file still the one at the path?"""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def sign(descriptor: int, process: int) -> None:
    """Note the holder in the file, for people and messages."""
    signature = f"{process:<{_SIGNATURE_BYTES - 1}}\n".encode("ascii")
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        if os.read(descriptor, _SIGNATURE_BYTES) != signature:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, signature)
    except OSError:  # a full disk must not refuse the lock for the sake of a message
        return


def signature(path: str) -> int | None:
    """The process that signed last, as far as the file tells; it may have given the lock back since."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return int(os.read(descriptor, _SIGNATURE_BYTES))
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Take the lock if it is free."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock."""
        while not try_lock(descriptor):
            time.sleep(_POLL_SECONDS)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
