"""Which live chunks match an expression of FTS5, and how many rows of the whole table do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.filters import condition_of, count_drawers
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.terms import Term

NARROW = 1 / 8
"""Up to this share of all drawers a filter is applied to rows before they are scored, beyond it afterwards."""

_WORD_FIRST = (
    "FROM passages CROSS JOIN chunks c ON c.id = passages.rowid CROSS JOIN drawers d ON d.id = c.drawer"
    " WHERE passages MATCH :expression AND {condition}"
)
_FILTER_FIRST = (
    "FROM passages WHERE passages MATCH :expression AND +passages.rowid IN"
    " (SELECT c.id FROM drawers d CROSS JOIN chunks c ON c.drawer = d.id WHERE {condition})"
)

Scored = tuple[int, float]


class Matching:
    """The full-text table as one filter leaves it, within one snapshot."""

    def __init__(self, connection: sqlite3.Connection, filter: DrawerFilter, *, weigh: bool) -> None:
        """Without `weigh` the filter is taken as wide; finding out costs a count."""
        self._connection = connection
        self._condition = condition_of(filter)
        self.share = _share(connection, filter) if weigh and not filter.is_empty else 1.0
        self.narrow = self.share <= NARROW
        self._source = (_FILTER_FIRST if self.narrow else _WORD_FIRST).format(condition=self._condition.sql)
        self._rank = "+rank" if self.narrow else "rank"

    def best(self, expression: str, limit: int) -> list[Scored]:
        """Chunks and their bm25, which is positive here, best first."""
        rows = self._connection.execute(
            f"SELECT passages.rowid, -rank {self._source} ORDER BY {self._rank} LIMIT :limit",
            self._values(expression, limit),
        )
        return rows.fetchall()

    def scores(self, expression: str) -> dict[int, float]:
        """The bm25 of every chunk that matches, dead or alive, within the filter or not."""
        rows = self._connection.execute(
            "SELECT rowid, -bm25(passages) FROM passages WHERE passages MATCH ?", (expression,)
        )
        return dict(rows.fetchall())

    def living(self, chunks: Sequence[int]) -> list[int]:
        """Those of the chunks that belong to live drawers within the filter, in the order given."""
        rows = self._connection.execute(
            "SELECT c.id FROM json_each(:chunks) AS wanted CROSS JOIN chunks c ON c.id = wanted.value"
            f" CROSS JOIN drawers d ON d.id = c.drawer WHERE {self._condition.sql} ORDER BY wanted.key",
            self._condition.values | {"chunks": json_array(chunks)},
        )
        return [row[0] for row in rows]

    def newest(self, expression: str, limit: int) -> list[int]:
        """Chunks, latest first."""
        rows = self._connection.execute(
            f"SELECT passages.rowid {self._source} ORDER BY passages.rowid DESC LIMIT :limit",
            self._values(expression, limit),
        )
        return [row[0] for row in rows]

    def everything(self, limit: int) -> list[int]:
        """Chunks within the filter, whatever words they hold."""
        rows = self._connection.execute(
            "SELECT c.id FROM drawers d CROSS JOIN chunks c ON c.drawer = d.id"
            f" WHERE {self._condition.sql} LIMIT :limit",
            self._condition.values | {"limit": limit},
        )
        return [row[0] for row in rows]

    def _values(self, expression: str, limit: int) -> dict[str, object]:
        return self._condition.values | {"expression": expression, "limit": limit}


def any_of(terms: Iterable[Term]) -> str:
    """The expression for rows that hold at least one of the terms."""
    return " OR ".join(term.expression for term in terms)


def all_of(terms: Iterable[Term]) -> str:
    """The expression for rows that hold every one of the terms."""
    return " AND ".join(term.expression for term in terms)


def count_rows(connection: sqlite3.Connection, expression: str, most: int = -1) -> int:
    """How many rows match, in the trash or not, counted up to `most`. The time grows with the answer."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM passages WHERE passages MATCH ? LIMIT ?)", (expression, most)
    ).fetchone()
    return int(row[0])


def _share(connection: sqlite3.Connection, filter: DrawerFilter) -> float:
    return count_drawers(connection, filter) / max(1, count_drawers(connection, DrawerFilter()))
