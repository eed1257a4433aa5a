"""The order of hits: scores by words and by meaning, the best chunk of each drawer, newer first among equals.

    score = bm25 / max(greatest bm25, what the question's words could earn) / 2 + cosine / 2

Words count as a share of what the question could earn by them, so that a match by a minor word does not count as a
perfect one. Recall is the same for weights from 0.4 to 0.6 (`benchmarks/retrieval.py`). Reciprocal rank fusion loses
several points of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import SearchMode

IDENTIFIER_BONUS = 2.0
"""Puts chunks with a rare identifier of the query before all others."""
KIN_BONUS = 1.0
"""The same for an identifier that is longer or shorter in the chunk."""
MOST_OF_ONE_FILE = 3
"""After so many hits of one file, those of other files come first."""
LEAST_SHARE = 0.3
"""They must have at least this share of the score of the hits that they displace."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the parts of a score weigh, and how they are measured. A benchmark may vary them.

    Words are measured by `possible` times what the question could earn by them, and at least by `least_scale`. Words
    that more than the share `frequent` of the passages hold are no part of the question's meaning.
    """

    words: float = 0.5
    meaning: float = 0.5
    possible: float = 1.0
    least_scale: float = 0.0
    frequent: float = 0.5


DEFAULT = Weights()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that an index returned. `bm25` is 0 if no word matches; `cosine` is None if there is no vector.

    `timely` is what the score gains by the time that the question names.
    """

    chunk: int
    drawer: int
    when: Instant
    bm25: float
    cosine: float | None
    holds_identifier: bool = False
    holds_kin: bool = False
    timely: float = 0.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best chunk of a drawer, with its score and the parts of it."""

    chunk: int
    drawer: int
    when: Instant
    score: float
    lexical: float
    semantic: float | None


def rank(
    candidates: Iterable[Candidate], mode: SearchMode, possible: float = 0.0, weights: Weights = DEFAULT
) -> list[Ranked]:
    """Each drawer once, with its best chunk, best first. `possible` is what the question could earn by its words."""
    pool = list(candidates)
    scale = max([weights.least_scale, weights.possible * possible, *(candidate.bm25 for candidate in pool)]) or 1.0
    best: dict[int, Ranked] = {}
    for candidate in pool:
        ranked = _score(candidate, scale, mode, weights)
        former = best.get(candidate.drawer)
        if former is None or _order(ranked) < _order(former):
            best[candidate.drawer] = ranked
    return sorted(best.values(), key=_order)


def spread(ranked: Sequence[Ranked], sources: Mapping[int, str | None]) -> tuple[list[Ranked], int]:
    """Mix the files; returns the drawers in their new order, and how many come before the displaced ones.

    `sources` has the file of each chunk. A drawer without a file counts as one of its own.
    """
    counts: Counter[str] = Counter()
    first: list[Ranked] = []
    displaced: list[Ranked] = []
    for each in ranked:
        source = sources[each.chunk]
        if source is not None:
            counts[source] += 1
        (displaced if source is not None and counts[source] > MOST_OF_ONE_FILE else first).append(each)
    if not displaced:
        return first, len(first)
    least = LEAST_SHARE * displaced[0].score
    leading = [each for each in first if each.score >= least]
    return leading + sorted([*displaced, *first[len(leading) :]], key=_order), len(leading)


def _score(candidate: Candidate, scale: float, mode: SearchMode, weights: Weights) -> Ranked:
    lexical = candidate.bm25 / scale
    score = _blend(lexical, candidate.cosine, mode, weights) + candidate.timely
    if mode is not SearchMode.SEMANTIC:
        score += IDENTIFIER_BONUS if candidate.holds_identifier else KIN_BONUS if candidate.holds_kin else 0.0
    return Ranked(candidate.chunk, candidate.drawer, candidate.when, score, lexical, candidate.cosine)


def _blend(lexical: float, cosine: float | None, mode: SearchMode, weights: Weights) -> float:
    """The score; by words alone without a vector, since a chunk that is not embedded yet must not lose by that."""
    if mode is SearchMode.KEYWORD or cosine is None:
        return lexical
    if mode is SearchMode.SEMANTIC:
        return cosine
    return weights.words * lexical + weights.meaning * cosine


def _order(ranked: Ranked) -> tuple[float, Instant, int]:
    return (-round(ranked.score, 6), -ranked.when, ranked.chunk)
