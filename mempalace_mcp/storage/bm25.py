"""The formula by which words rank, exactly as FTS5 computes it, so that scores from either side compare.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with k1 = 1.2 and b = 0.75;
as in FTS5 a term found in more than half of all rows weighs next to nothing instead of less.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy.typing as npt

N = TypeVar("N", float, "npt.NDArray[Any]")

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

    def saturation(self, occurrences: N, length: N) -> N:
        """How much of its weight a term earns by occurring that often in a row of `length` tokens; also of arrays."""
        relative = length * self.rows / self.tokens
        return occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))


def read_collection(connection: sqlite3.Connection) -> Collection:
    """The totals that FTS5 keeps for its own bm25(), as of the last commit."""
    row = connection.execute("SELECT block FROM passages_data WHERE id = 1").fetchone()
    totals = list(_integers(row[0])) if row else []
    return Collection(*totals) if len(totals) == 2 else Collection(0, 0)


def read_lengths(connection: sqlite3.Connection, chunks: str) -> dict[int, int]:
    """The number of tokens of each of the rows, given as a JSON array."""
    rows = connection.execute(
        "SELECT id, sz FROM passages_docsize WHERE id IN (SELECT value FROM json_each(?))", (chunks,)
    )
    return {chunk: next(_integers(size)) for chunk, size in rows}


def _integers(block: bytes) -> Iterator[int]:
    """SQLite's variable-length integers: seven bits per byte, most significant first, the high bit says more."""
    value = 0
    for byte in block:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            yield value
            value = 0
