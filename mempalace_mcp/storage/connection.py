"""What the stores need of a database: a connection that runs portable SQL, and snapshots to read from.

`storage.sqlite` implements these Protocols. Nothing outside it knows which database is behind a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values of the placeholders `?`, in their order, or of `:name`, by name."""


class Cursor(Protocol):
    """The rows of one statement, as tuples."""

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE has changed; `executemany` adds them up."""
        ...

    def fetchone(self) -> Any:
        """The next row; None after the last."""
        ...

    def fetchmany(self, size: int = ..., /) -> list[Any]:
        """At most so many of the next rows."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...


class Connection(Protocol):
    """A connection to the palace's database. It is used by one thread at a time."""

    @property
    def in_transaction(self) -> bool:
        """False once the database has ended the transaction by itself, for example on a full disk."""
        ...

    @property
    def changed(self) -> int:
        """A counter that grows with every statement that changed something."""
        ...

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Run a statement."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Cursor:
        """Run a statement once for each of the parameters."""
        ...


class Reader(Protocol):
    """Gives consistent snapshots of the palace."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that cannot write; everything read from it within the block is of one moment.

        Raises:
            PalaceError: the database is gone, unreadable or busy.
        """
        ...
