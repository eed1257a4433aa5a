"""Figures of the database: what health, metrics and status tell about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """What the file system says: sizes in bytes, None for a file that is not there.

    `available` is false once the files were removed or replaced, or the database closed.
    """

    available: bool
    database_bytes: int | None
    log_bytes: int | None


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """The figures of `FileStatistics`; times in seconds; counts since the database was opened.

    `writable` is false where the directory does not allow writing. `damaged` says that SQLite could not read
    something since the files were opened. `groups` counts commits of more than one unit, `retries` attempts repeated
    because a foreign connection was in the way. `last_error` is the code with which storage, or waiting for it, refused
    the last write; None once a write has been committed since.
    """

    available: bool
    writable: bool
    damaged: bool
    database_bytes: int | None
    log_bytes: int | None
    commits: int
    groups: int
    largest_group: int
    retries: int
    locks: int
    lock_wait_total: float
    lock_wait_max: float
    readers_in_use: int
    readers_limit: int
    reopened: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What a checkpoint did; `complete` is false when a reader kept part of the write-ahead log from being moved."""

    complete: bool
    log_pages: int
    moved_pages: int


@dataclass(slots=True)
class Counters:
    """Counts behind the statistics; changed with the write lock held, `damaged` and `last_error` excepted."""

    commits: int = 0
    groups: int = 0
    largest_group: int = 0
    retries: int = 0
    locks: int = 0
    lock_wait_total: float = 0.0
    lock_wait_max: float = 0.0
    reopened: int = 0
    damaged: bool = False
    last_error: str | None = None

    def locked(self, waited: float) -> None:
        """The lock was had after so many seconds."""
        self.locks += 1
        self.lock_wait_total += waited
        self.lock_wait_max = max(self.lock_wait_max, waited)

    def committed(self, units: int) -> None:
        """So many units became durable together."""
        self.last_error = None
        self.commits += units > 0
        self.groups += units > 1
        self.largest_group = max(self.largest_group, units)
