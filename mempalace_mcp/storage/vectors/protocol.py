"""What the rest of the program needs of the index of a palace's vectors, as a Protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.vectors.log import Vectors
from mempalace_mcp.storage.vectors.model import Difference, Neighbour, Reconnection, VectorStatistics

Read = Callable[[], AbstractContextManager[Connection]]
"""Gives a connection with one consistent snapshot."""


class PalaceVectors(Protocol):
    """Nearest neighbours, as of the snapshot of the connection that asks. It does not own the palace's vectors: they
    are rows of the palace, and what the index adds to them can always be made anew.

    `nearest` and `cosines` may be called by many threads at once, `advance` is called by one. Up to `stored_at_once`
    vectors are to be stored in one transaction, so that other writers do not wait for the index.
    """

    stored_at_once: int

    def nearest(
        self, connection: Connection, query: Vectors, limit: int, drawer_filter: DrawerFilter, /
    ) -> list[Neighbour]:
        """The `limit` live chunks nearest to a query that match the filter, best first.

        Raises:
            ModelMoved: the palace has moved to another model since the snapshot was taken; not every index can tell.
            ModelMismatch: the query has another dimension than the palace's vectors.
            PalaceCorrupt: the palace's vectors differ in length.
        """
        ...

    def cosines(self, connection: Connection, query: Vectors, chunks: Sequence[int], /) -> dict[int, float]:
        """The cosine to the query of those of the chunks that have a vector.

        Raises:
            ModelMismatch, PalaceCorrupt: as `nearest`.
        """
        ...

    @property
    def rest(self) -> float:
        """Seconds until `advance` may work again."""
        ...

    def advance(self, database_read: Read, limit: int, /) -> int:
        """Do a step of the upkeep, of up to `limit` rows where it goes by rows; returns of how many, 0 when there is
        nothing to do now. Never raises because of the index."""
        ...

    def reconnect(self, connection: Connection, /) -> Reconnection[VectorStatistics]:
        """Forget what is known of the index, look at it anew and verify it."""
        ...

    def rebuild(self) -> bool:
        """Discard everything derived; `advance` makes it anew. False when another process is at work on it."""
        ...

    def verify(self, connection: Connection, /) -> list[Difference]:
        """Where the index differs from the palace's vectors, as far as a thorough look at it finds."""
        ...

    def statistics(self) -> VectorStatistics:
        """The present figures, from memory alone."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...
