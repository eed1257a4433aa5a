"""The database of a palace as a Protocol: snapshots, group commit, and the statistics that health is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mempalace_mcp.core.figures import counter, gauge
from mempalace_mcp.storage.connection import Connection, Reader
from mempalace_mcp.storage.transactions import Unit, Writer

T = TypeVar("T")


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

    `writable` is false where the directory does not allow writing. `damaged` says that something could not be read
    since the files were opened. `groups` counts commits of more than one unit, `retries` attempts repeated because a
    foreign connection was in the way. `last_error` is the code with which storage, or waiting for it, refused the last
    write; None once a write has been committed since.
    """

    available: bool
    writable: bool
    damaged: bool
    database_bytes: int | None = field(metadata=gauge("database_bytes", "Size of palace.db."))
    log_bytes: int | None = field(metadata=gauge("log_bytes", "Size of the write-ahead log."))
    commits: int = field(metadata=counter("commits", "Transactions committed."))
    groups: int
    largest_group: int
    retries: int = field(metadata=counter("lock_retries", "Attempts repeated because a program was in the way."))
    locks: int
    lock_wait_total: float = field(metadata=counter("lock_wait_seconds", "Time spent for the write lock."))
    lock_wait_max: float = field(metadata=gauge("lock_wait_max_seconds", "Longest wait for the write lock."))
    readers_in_use: int
    readers_limit: int
    reopened: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a database's server said of itself when it was last asked; None where it said nothing.

    `failure` says why it cannot be used. `unsafe` are settings with which a crash of its machine loses or damages what
    was acknowledged. `invalid_indexes` are those whose making was interrupted. The oldest transaction is that of the
    database, in seconds: what was deleted since then cannot be cleared away.
    """

    address: str
    reachable: bool
    failure: str | None = None
    version: str | None = None
    vector_version: str | None = None
    unsafe: tuple[str, ...] = ()
    invalid_indexes: tuple[str, ...] = ()
    connections: int | None = field(
        default=None, metadata=gauge("server_connections", "Connections to the database's server, by anybody.")
    )
    connection_limit: int | None = field(
        default=None, metadata=gauge("server_connection_limit", "Connections that the server allows.")
    )
    oldest_transaction: float | None = field(
        default=None, metadata=gauge("server_oldest_transaction_seconds", "Age of the oldest transaction there.")
    )


class GroupWriter(Protocol):
    """Commits units of work together."""

    def write_group(self, units: Sequence[Unit[Any]], /) -> None:
        """Commit the units together, and settle every one of them. One that fails does not harm the others."""
        ...

    def awaited(self) -> str:
        """What a write waits for, as an error message names it."""
        ...


class DatabaseFiles(Protocol):
    """What a database takes of its disk."""

    def files(self) -> FileStatistics:
        """A look at the files, which takes as long as the file system does, or the server."""
        ...

    def free_bytes(self) -> int | None:
        """The space left for it, as far as this user may use it; None where that is not known."""
        ...


DataVersion = tuple[object, int]
"""What has counted, and a number that changes with every commit. Only numbers of the same origin compare."""


class PalaceDatabase(Reader, Writer, GroupWriter, DatabaseFiles, Protocol):
    """The palace's database, open. Thread-safe."""

    directory: Path

    @property
    def server(self) -> ServerStatistics | None:
        """What was last heard of its server, when `files` was called; None if it has none."""
        ...

    def read_if_changed(
        self, seen: DataVersion | None, read: Callable[[Connection], T], /
    ) -> tuple[DataVersion, T] | None:
        """What `read` finds, and the version of that; None if nobody has committed since the version `seen`.

        It takes microseconds and waits for nothing, so it may run on an event loop.
        """
        ...

    def statistics(self, files: FileStatistics | None = None, /) -> DatabaseStatistics:
        """Sizes, waits and counts; never waits for a lock, nor for the disk if the look at the files is given."""
        ...

    def integrity(self) -> list[str]:
        """What is wrong with the stored data; empty if nothing.

        Raises:
            PalaceError: as `read`.
        """
        ...

    def reopen(self) -> None:
        """Connect anew, to what is at the database's address now. On failure it stays as it was.

        Raises:
            PalaceError: as opening.
        """
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...
