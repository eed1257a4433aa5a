"""The formula by which words rank, exactly as FTS5 computes it, so that scores from either side compare.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with k1 = 1.2 and b = 0.75;
as in FTS5 a term found in more than half of all rows weighs next to nothing instead of less.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

K1 = 1.2
B = 0.75
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Collection:
    """How many rows the full-text table has, and how many tokens they hold together."""

    rows: int
    tokens: int

    def weight(self, frequency: int) -> float:
        """The inverse document frequency of a term that `frequency` rows hold."""
        weight = math.log((self.rows - frequency + 0.5) / (frequency + 0.5)) if frequency <= self.rows else 0.0
        return weight if weight > 0 else LEAST_WEIGHT

    def saturation(self, occurrences: Counts, lengths: Counts) -> npt.NDArray[np.float64]:
        """How much of its weight a term earns by occurring that often in rows of so many tokens."""
        relative = lengths * self.rows / self.tokens
        saturation: npt.NDArray[np.float64] = occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))
        return saturation


def read_collection(connection: sqlite3.Connection) -> Collection:
    """The totals that FTS5 keeps for its own bm25(), as of the last commit."""
    row = connection.execute("SELECT block FROM passages_data WHERE id = 1").fetchone()
    totals = list(_integers(row[0])) if row else []
    return Collection(*totals) if len(totals) == 2 else Collection(0, 0)


def _integers(block: bytes) -> Iterator[int]:
    """SQLite's variable-length integers: seven bits per byte, most significant first, the high bit says more."""
    value = 0
    for byte in block:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            yield value
            value = 0
