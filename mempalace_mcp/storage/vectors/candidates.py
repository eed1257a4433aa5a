"""Ranked candidates of one part of the index, before SQLite has its say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.storage.vectors.truth import Integers


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best rows of one part. Each is what SQLite must still hold: the chunk's vector at a position in a range.

    `floor` is the cosine below which the part may hold further rows; minus infinity when these are all.
    """

    chunks: Integers
    cosines: NDArray[np.float32]
    first: Integers
    last: Integers
    floor: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The cosine of every row of a part, minus infinity for those that are out of the question."""

    chunks: Integers
    positions: Integers
    cosines: NDArray[np.float32]
    eligible: int

    def best(self, count: int) -> Candidates:
        """The `count` best rows in any order, all of them if there are fewer."""
        if count < self.eligible:
            order = np.argpartition(self.cosines, len(self.cosines) - count)[len(self.cosines) - count :]
            floor = float(self.cosines[order].min())
        else:
            order = np.flatnonzero(self.cosines > -np.inf)
            floor = -math.inf
        positions = self.positions[order]
        return Candidates(self.chunks[order], self.cosines[order], positions, positions, floor)
