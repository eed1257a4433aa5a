"""How hits are ordered: words and meaning weighed, chunks pooled to their drawer, newer first among equals.

    score = bm25 / max(greatest bm25, 8) / 2 + cosine / 2

The floor of 8 keeps a weak best match by words from counting as a perfect one. Equal weights lie in the middle of a
plateau of recall that reaches from 0.4 to 0.6 (`benchmarks/retrieval.py`); reciprocal rank fusion loses several points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import SearchMode

LEXICAL_WEIGHT = 0.5
SEMANTIC_WEIGHT = 1 - LEXICAL_WEIGHT
BM25_FLOOR = 8.0
IDENTIFIER_BONUS = 2.0
"""Lifts a chunk that holds a rare identifier of the query above every chunk that does not."""
KIN_BONUS = 1.0
"""For an identifier that is written longer or shorter there."""
OF_ONE_SOURCE = 3
"""Hits of one file after which those of others come first,"""
LEAST_SHARE = 0.3
"""if they score at least so much of what they displace: what does not answer displaces nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that one side proposed. `bm25` is 0 where no word matches; `cosine` is None without a vector."""

    chunk: int
    drawer: int
    when: Instant
    bm25: float
    cosine: float | None
    holds_identifier: bool = False
    holds_kin: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A drawer's best chunk, with the parts of its score."""

    chunk: int
    drawer: int
    when: Instant
    score: float
    lexical: float
    semantic: float | None


def rank(candidates: Iterable[Candidate], mode: SearchMode) -> list[Ranked]:
    """Each drawer once, by its best chunk, best first."""
    pool = list(candidates)
    scale = max([BM25_FLOOR, *(candidate.bm25 for candidate in pool)])
    best: dict[int, Ranked] = {}
    for candidate in pool:
        ranked = _score(candidate, scale, mode)
        rival = best.get(candidate.drawer)
        if rival is None or _order(ranked) < _order(rival):
            best[candidate.drawer] = ranked
    return sorted(best.values(), key=_order)


def spread(ranked: Sequence[Ranked], sources: Mapping[int, str | None]) -> tuple[list[Ranked], int]:
    """The same drawers with the files mixed, and how many come before those that others displace.

    `sources` names the file of a chunk; drawers without one are each of its own.
    """
    counts: Counter[str] = Counter()
    first: list[Ranked] = []
    displaced: list[Ranked] = []
    for each in ranked:
        source = sources[each.chunk]
        if source is not None:
            counts[source] += 1
        (displaced if source is not None and counts[source] > OF_ONE_SOURCE else first).append(each)
    if not displaced:
        return first, len(first)
    least = LEAST_SHARE * displaced[0].score
    leading = [each for each in first if each.score >= least]
    return leading + sorted([*displaced, *first[len(leading) :]], key=_order), len(leading)


def _score(candidate: Candidate, scale: float, mode: SearchMode) -> Ranked:
    lexical = candidate.bm25 / scale
    score = _blend(lexical, candidate.cosine, mode)
    if mode is not SearchMode.SEMANTIC:
        score += IDENTIFIER_BONUS if candidate.holds_identifier else KIN_BONUS if candidate.holds_kin else 0.0
    return Ranked(candidate.chunk, candidate.drawer, candidate.when, score, lexical, candidate.cosine)


def _blend(lexical: float, cosine: float | None, mode: SearchMode) -> float:
    """Without a vector (not embedded yet, or no model) words decide alone: a missing side must not sink a hit."""
    if mode is SearchMode.KEYWORD or cosine is None:
        return lexical
    if mode is SearchMode.SEMANTIC:
        return cosine
    return LEXICAL_WEIGHT * lexical + SEMANTIC_WEIGHT * cosine


def _order(ranked: Ranked) -> tuple[float, Instant, int]:
    return (-round(ranked.score, 6), -ranked.when, ranked.chunk)
