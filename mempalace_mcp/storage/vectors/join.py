"""The join of ranked candidates with SQLite, which decides what is live and what matches."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import numpy as np

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.vectors import truth
from mempalace_mcp.storage.vectors.candidates import Candidates
from mempalace_mcp.storage.vectors.model import Neighbour

_SPARE_ROWS = 14
_WIDENING = 4


def nearest_live(
    connection: sqlite3.Connection,
    limit: int,
    drawer_filter: DrawerFilter,
    best: Callable[[int], Sequence[Candidates] | None],
) -> list[Neighbour] | None:
    """The `limit` best candidates that SQLite confirms.

    `best` gives the candidates of each part, so and so many per part. They are widened until enough of those are
    confirmed that no row beyond them can outrank, or there are no more; None when `best` gives up.
    """
    count = limit + _SPARE_ROWS
    while (parts := best(count)) is not None:
        confirmed = _confirmed(connection, drawer_filter, parts)
        floor = max(part.floor for part in parts)
        certain = [neighbour for neighbour in confirmed if neighbour.cosine >= floor]
        if len(certain) >= limit or floor == -np.inf:
            return certain[:limit]
        count *= _WIDENING
    return None


def _confirmed(
    connection: sqlite3.Connection, drawer_filter: DrawerFilter, parts: Sequence[Candidates]
) -> list[Neighbour]:
    chunks = np.unique(np.concatenate([part.chunks for part in parts])).tolist()
    live = truth.live_positions(connection, chunks, drawer_filter)
    cosines: dict[int, float] = {}
    for part in parts:
        rows = zip(part.chunks.tolist(), part.cosines.tolist(), part.first.tolist(), part.last.tolist(), strict=True)
        for chunk, cosine, first, last in rows:
            if first <= live.get(chunk, -1) <= last:
                cosines[chunk] = cosine
    ranked = sorted(cosines.items(), key=lambda item: (-item[1], item[0]))
    return [Neighbour(chunk, cosine) for chunk, cosine in ranked]
