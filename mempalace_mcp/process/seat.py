"""The daemon's seat: who holds the lock on it is the one daemon of a palace, from birth to death.

Whoever wins the seat for a new daemon gives it the open file, so that the seat is never free in between, and is free
the moment the daemon is dead.
"""

from __future__ import annotations

import os
import sys

from mempalace_mcp.core import flock


class Seat:
    """The lock, held."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: str) -> Seat | None:
        """Take the seat if it is free.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        while True:
            descriptor = flock.open_lock(path)
            try:
                if not flock.try_lock(descriptor):
                    os.close(descriptor)
                    return None
            except BaseException:
                os.close(descriptor)
                raise
            if flock.is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def wait(cls, path: str) -> Seat:
        """Take the seat as soon as it is free.

        Raises:
            OSError: the file cannot be opened for writing.
        """
        while True:
            descriptor = flock.open_lock(path)
            try:
                flock.lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if flock.is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def inherit(cls, path: str, descriptor: int) -> Seat:
        """Take over the seat from the process that started this one; children of this one do not get it."""
        os.set_inheritable(descriptor, False)
        return cls(path, descriptor)

    def sign(self) -> None:
        """Note this process as the holder."""
        flock.sign(self.descriptor, os.getpid())

    def is_current(self) -> bool:
        """Is the locked file still the one that others find?"""
        return flock.is_at(self.descriptor, self.path)

    def hand_over(self) -> None:
        """Let the next child have it, where locks pass on to children."""
        if sys.platform != "win32":
            os.set_inheritable(self.descriptor, True)

    def close(self) -> None:
        """Let go of it; a child that has it keeps it."""
        os.close(self.descriptor)
