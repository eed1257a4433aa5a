"""How far a score can be trusted. Pure.

Measured on 302 questions to two conversations (LoCoMo, sessions as drawers): 0.15 of the hits with a score around 0.35
were right, 0.3 around 0.45, 0.6 around 0.55, and 0.85 around 0.65.

Without token vectors, as with the model for sixteen languages, scores are lower: 0.2 were right around 0.25, 0.3 around
0.35, 0.5 around 0.5, and 0.7 around 0.65. Across languages there are no words in common, and 0.6 of the hits are right
around 0.17 (`benchmarks/languages.py`). What is told there is less than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The confidence is one half at the score `middle`. A best score below `covered` means that probably nothing
    answers."""

    middle: float
    steepness: float
    covered: float


WITH_TOKENS = Scale(middle=0.5, steepness=11.0, covered=0.2)
"""Of the questions that had an answer 2 in 100 had a best score below 0.2, and 85 in 100 that were asked of the other
conversation. No score is safe: answers in other words score as low."""

WITHOUT_TOKENS = Scale(middle=0.42, steepness=7.0, covered=0.1)
"""Below 0.1 were 5 in 100 of the questions whose answer was there in another language, and 43 in 100 of those whose
answer was not there; below 0.2 they were 47 and 91."""


def scale_of(*, meaning: bool, tokens: bool) -> Scale:
    """The scale of a score: does it have a part by meaning, and one by tokens?"""
    return WITHOUT_TOKENS if meaning and not tokens else WITH_TOKENS


def confidence_of(score: float, scale: Scale = WITH_TOKENS) -> float:
    """About how often a hit of such a score is right, from 0 to 1; with an identifier of the question it is 1."""
    return 1 / (1 + math.exp(scale.steepness * (scale.middle - score)))
