"""Ways to the rows that hold some words and that a filter leaves; the cheapest is chosen here.

PostgreSQL's planner has no statistics of pairs of words, nor of rare ones. Where it errs a search takes a second.
Subqueries with OFFSET 0 are planned as they stand.
"""

from __future__ import annotations

from enum import Enum

BY_WORDS_COST, BY_FILTER_COST, FROM_NEWEST_COST = 5.0, 5.0, 1.0
"""Microseconds for a row, about: found by the index of words, found by the filter, looked at in order."""

ALL_WITHIN = (
    "(SELECT * FROM passages WHERE chunk = ANY(ARRAY("
    "SELECT c.id FROM drawers d CROSS JOIN LATERAL (SELECT id FROM chunks WHERE drawer = d.id OFFSET 0) AS c"
    " WHERE {filter})) OFFSET 0) AS passages"
)
"""The passages that a filter leaves, by their number."""

_IS_WITHIN = (
    "EXISTS (SELECT FROM chunks c JOIN drawers d ON d.id = c.drawer WHERE c.id = passages.chunk AND {filter} OFFSET 0)"
)


class Way(Enum):
    """What is looked at first. The text has places for the conditions."""

    BY_WORDS = f"(SELECT chunk, raw FROM passages WHERE {{words}} OFFSET 0) AS passages WHERE {_IS_WITHIN}"
    BY_FILTER = f"{ALL_WITHIN} WHERE {{words}}"
    FROM_NEWEST = (
        f"(SELECT * FROM passages ORDER BY chunk DESC OFFSET 0) AS passages WHERE ({{words}}) AND {_IS_WITHIN}"
    )

    def source(self, words: str, filter: str) -> str:
        """What stands behind FROM: `passages`, under both conditions."""
        return self.value.format(words=words, filter=filter)


def way_to_all(matches: float, within: float) -> Way:
    """To all rows, where so many rows of the table hold the words and the filter leaves so many."""
    return Way.BY_WORDS if BY_WORDS_COST * matches <= BY_FILTER_COST * within else Way.BY_FILTER


def way_to_newest(matches: float, within: float, rows: int, limit: int) -> Way:
    """To the latest rows, up to a limit."""
    looked_at = min(rows, limit * rows * rows / max(matches * within, 1.0))
    others = min(BY_WORDS_COST * matches, BY_FILTER_COST * within)
    return Way.FROM_NEWEST if FROM_NEWEST_COST * looked_at < others else way_to_all(matches, within)
