"""What differs between operating systems: each difference is one function or constant here, and nowhere else.

A bridge imports this module, so it loads little by itself: what only servers need is imported in the functions.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt
    import time
else:
    import fcntl

_LOCKED_BYTE = 1 << 30
"""On Windows a locked byte cannot be read, so it lies far behind what the file says about its holder."""
_POLL_SECONDS = 0.005


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Take the lock on an open file if it is free."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock on an open file."""
        while not try_lock(descriptor):
            time.sleep(_POLL_SECONDS)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        """Take the lock on an open file if it is free. It belongs to the open file, and so passes to a child with it.

        Raises:
            OSError: the file system has no locks.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock on an open file, in the kernel's queue.

        Raises:
            OSError: the file system has no locks.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
