"""How often words occur in the passages that a filter leaves, told by a sample of them.

In one conversation or project some words stand nearly everywhere: the names of who speaks, the name of the thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import newest_chunks
from mempalace_mcp.storage.word_table import Passages, Tokenizer, WordTable, token_numbers

SAMPLE = 100
"""Passages that are looked at: a share of half is known to within a tenth."""

NEWEST = 1_000
"""Drawers that the sample is taken from, evenly."""

LEAST_SAMPLE = 12
"""Of fewer passages nothing is said."""

DRIFT = 0.02
"""Relative growth of the table of words after which a sample is taken anew; of a small one, after an eighth of it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The tokens of some passages by number, ascending, with the share of the passages that hold each."""

    table_rows: int
    passages: int
    numbers: npt.NDArray[np.uint32]
    shares: npt.NDArray[np.float64]

    def is_of(self, rows: int) -> bool:
        """Is it still good when the table has so many rows?"""
        return abs(rows - self.table_rows) <= max(DRIFT * self.table_rows, self.passages // 8)

    def share(self, stem: str) -> float:
        """The share of the passages that hold a token."""
        (number,) = token_numbers([stem])
        place = int(np.searchsorted(self.numbers, number))
        known = place < len(self.numbers) and self.numbers[place] == number
        return float(self.shares[place]) if known else 0.0


class ScopeWords:
    """Keeps the samples of the latest filters. Thread-safe."""

    def __init__(self, table: WordTable, tokenizer: Tokenizer, scopes: int = 64) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._samples: LruMap[DrawerFilter, Sample] = LruMap(scopes)

    def sample(self, connection: Connection, filter: DrawerFilter, rows: int) -> Sample | None:
        """The sample of what a filter leaves of a table of so many rows; None of too few passages.

        Dates are left out of account: what is said of one place is said in the same words.
        """
        scope = replace(filter, since=None, before=None, asked=(None, None))
        known = self._samples.get(scope)
        if known is None or not known.is_of(rows):
            known = self._take(connection, scope, rows)
            self._samples.put(scope, known)
        return known if known.passages >= LEAST_SAMPLE else None

    def _take(self, connection: Connection, scope: DrawerFilter, rows: int) -> Sample:
        chunks = newest_chunks(connection, scope, NEWEST)
        passages = Passages(self._table, connection, _evenly(chunks, SAMPLE), self._tokenizer)
        numbers, counts = passages.document_counts()
        return Sample(rows, len(passages.chunks), numbers, counts / max(len(passages.chunks), 1))


def _evenly(chunks: Sequence[int], count: int) -> list[int]:
    if len(chunks) <= count:
        return list(chunks)
    return [chunks[place] for place in np.linspace(0, len(chunks) - 1, count).astype(int)]
