"""How far a score can be trusted. Pure.

Measured on 302 questions to two conversations (LoCoMo, sessions as drawers): 0.15 of the hits with a score around 0.35
were right, 0.3 around 0.45, 0.6 around 0.55, and 0.85 around 0.65.
"""

from __future__ import annotations

import math

MIDDLE, STEEPNESS = 0.5, 11.0

COVERED = 0.2
"""A best score below that means that probably nothing answers: of those questions 2 in 100 had such a score, and 85 in
100 that were asked of the other conversation. No score is safe: answers in other words score as low."""


def confidence_of(score: float) -> float:
    """About how often a hit of such a score is right, from 0 to 1; with an identifier of the question it is 1."""
    return 1 / (1 + math.exp(STEEPNESS * (MIDDLE - score)))
