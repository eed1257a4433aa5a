"""Work on a palace that its processes share: who embeds which passages, and who does what only one should do."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.core.model import Chunk, Priority
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkLog


class Task(StrEnum):
    """What is done for the whole palace, by one process at a time."""

    MOVE = "move"  # to another model; the index of vectors is not made meanwhile
    TOKENS = "tokens"  # the token vectors that an earlier version has left out
    TIDY = "tidy"  # the trash, receipts, and token vectors that nobody reads any more


class Turns(Protocol):
    """Divides the work between processes. For one thread."""

    def claim(self, connection: Connection, limit: int, priority: Priority, /) -> list[Chunk]:
        """Passages without a vector that this process is to embed now, oldest first; none if others have them.

        Raises:
            PalaceError: it cannot be found out who has them.
        """
        ...

    def lead(self, task: Task, /) -> bool:
        """Is this process the one to do that now? It stays so for a while.

        Raises:
            PalaceError: it cannot be found out.
        """
        ...

    def release(self) -> None:
        """Let others embed, move and make token vectors: here is nothing to do."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class LockedTurns(Turns):
    """The process that holds a file's lock embeds everything; what needs no model is done by each one."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        self._chunks = ChunkLog()

    def claim(self, connection: Connection, limit: int, priority: Priority) -> list[Chunk]:
        """The oldest ones, while the lock is held."""
        return self._chunks.pending(connection, limit, priority) if self._has_lock() else []

    def lead(self, task: Task) -> bool:
        """Always for tidying; the rest while the lock is held."""
        return task is Task.TIDY or self._has_lock()

    def release(self) -> None:
        """Give the lock back."""
        if self._lock.held:
            self._lock.release()

    def close(self) -> None:
        """Give the lock back for good."""
        self._lock.close()

    def _has_lock(self) -> bool:
        return self._lock.held or self._lock.try_acquire()
