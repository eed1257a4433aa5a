"""The formula by which words rank, exactly as FTS5 computes it, so that scores from either side compare.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with k1 = 1.2 and b = 0.75;
as in FTS5 a term found in more than half of all rows weighs next to nothing instead of less.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.storage.transaction import Transaction

Counts = npt.NDArray[np.int64]

K1 = 1.2
B = 0.75
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Collection:
    """How many rows the full-text table has, and how many tokens they hold together. Rows up to the number `stale`
    hold words as earlier versions read them."""

    rows: int
    tokens: int
    stale: int = 0

    def weight(self, frequency: int) -> float:
        """The inverse document frequency of a term that `frequency` rows hold."""
        weight = math.log((self.rows - frequency + 0.5) / (frequency + 0.5)) if frequency <= self.rows else 0.0
        return weight if weight > 0 else LEAST_WEIGHT

    def saturation(self, occurrences: Counts, lengths: Counts) -> npt.NDArray[np.float64]:
        """How much of its weight a term earns by occurring that often in rows of so many tokens."""
        relative = lengths * self.rows / max(self.tokens, 1)
        saturation: npt.NDArray[np.float64] = occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))
        return saturation


def read_collection(connection: sqlite3.Connection) -> Collection:
    """The totals as of the last commit.

    Raises:
        PalaceCorrupt: they are missing.
    """
    row = connection.execute("SELECT passages, tokens, stale FROM lexicon").fetchone()
    if row is None:
        raise PalaceCorrupt("the totals of the index of words are missing", hint="Run `mempalace-mcp reindex`.")
    return Collection(*row)


def count_change(tx: Transaction, rows: int, tokens: int) -> None:
    """Take rows that were added, or removed if the numbers are negative, into the totals."""
    tx.connection.execute("UPDATE lexicon SET passages = passages + ?, tokens = tokens + ?", (rows, tokens))


def note_reworded(tx: Transaction, stale: int) -> None:
    """Only rows up to the number `stale` hold words as earlier versions read them."""
    tx.connection.execute("UPDATE lexicon SET stale = ?", (stale,))


def count_anew(tx: Transaction) -> None:
    """Make the totals out of the index. If nobody knows which rows are stale, all of them are."""
    tx.connection.execute(
        "INSERT INTO lexicon (id, passages, tokens, stale)"
        " SELECT 1, (SELECT count(*) FROM passages), (SELECT coalesce(sum(cnt), 0) FROM passage_words),"
        " (SELECT coalesce(max(id), 0) FROM chunks) WHERE true"
        " ON CONFLICT (id) DO UPDATE SET passages = excluded.passages, tokens = excluded.tokens"
    )
