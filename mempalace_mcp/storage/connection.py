"""A connection that runs portable SQL, and the fragments in which databases differ.

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


class Dialect(Protocol):
    """The fragments of SQL in which databases differ; all other text of the stores is the same for each of them."""

    @property
    def ordered_join(self) -> str:
        """A join that is followed by ON. A planner without statistics must keep its order."""
        ...

    def array(self, values: Sequence[Any], /) -> Any:
        """The value of a parameter that stands for a list of any length."""
        ...

    def listed(self, parameter: str, alias: str, kind: type[int] | type[str] = int, /) -> str:
        """A table of the values of an `array`, with the columns `value` and, ascending in their order, `key`."""
        ...

    def members(self, parameter: str, kind: type[int] | type[str] = int, /) -> str:
        """What stands behind IN for the values of an `array`."""
        return f"(SELECT value FROM {self.listed(parameter, 'members', kind)})"

    def vector(self, embedding: bytes, /) -> Any:
        """The value of a parameter that stands for a vector, given as little-endian float32. Read, it is that again."""
        return embedding

    def position(self, text: str, part: str, /) -> str:
        """Where a part first occurs in a text, counted from 1; 0 if it does not."""
        ...

    def same(self, column: str, parameter: str, /) -> str:
        """A comparison by which NULL equals NULL."""
        ...

    def by_index(self, name: str, /) -> str:
        """What stands behind a table that is to be read by that index."""
        ...


class Connection(Protocol):
    """A connection to the palace's database. It is used by one thread at a time."""

    @property
    def dialect(self) -> Dialect:
        """How SQL is written for this database."""
        ...

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
