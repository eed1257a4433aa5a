"""The order of hits: scores by tokens, words and meaning, the best chunk of each drawer, newer first among equals.

    score = 0.45 match + 0.2 words^2 + 0.35 cosine      with token vectors
    score = 0.5 words^2 + 0.5 cosine                    before a chunk has them

`match` is how well each token of the question is met by some token of the chunk, from 0 to 1. `words` is bm25 as a
share of what the question could earn by its words. The square leaves a quarter of half an answer: chunks that share a
minor word with the question no longer come before its answer in other words. `docs/retrieval.md` shows what each step
gains.

A short drawer counts for two thirds by itself, for one third by what is said around it in its source.
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
USUAL = 0.7
"""The rank, from worst to best, of the candidate whose vectors stand for those of a chunk that has none yet. LoCoMo,
asked when no chunk was embedded, R@1: 65.6 by words alone, 76.8 from 0.5 to 0.7, 74.8 at 0.85."""
LEAST_SHARE = 0.3
"""They must have at least this share of the score of the hits that they displace."""
LEAST_SHARE_OF_TURNS = 0.9
"""The same if those are turns of a conversation, unless it has most of the candidates: the answer is one of them, and
turns of others score little less."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the parts of a score weigh, and how they are measured. A benchmark may vary them.

    Words are measured by `possible` times what the question could earn by them, and at least by `least_scale`; their
    share is raised to `power`. Without a match, `words_alone` weighs words, and meaning weighs the rest. Words that
    more than the share `frequent` of the passages hold are no part of the question's meaning. `part` weighs what is
    said around a short drawer, against 1 for itself.
    """

    match: float = 0.45
    words: float = 0.2
    meaning: float = 0.35
    words_alone: float = 0.5
    power: float = 2.0
    possible: float = 1.0
    least_scale: float = 0.0
    frequent: float = 0.5
    part: float = 0.5


DEFAULT = Weights()


@dataclass(frozen=True, slots=True)
class Signals:
    """What speaks for a text. `bm25` is 0 if no word matches; `cosine` and `match` are None without vectors."""

    bm25: float
    cosine: float | None
    match: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that an index returned, with its `Signals`, and those of what stands around it if it is short.

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
    match: float | None = None
    part: Signals | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best chunk of a drawer, with its scores. A turn is a short drawer that was judged with those around it."""

    chunk: int
    drawer: int
    when: Instant
    score: float
    lexical: float
    semantic: float | None
    is_turn: bool = False


def rank(
    candidates: Iterable[Candidate], mode: SearchMode, possible: float = 0.0, weights: Weights = DEFAULT
) -> list[Ranked]:
    """Each drawer once, with its best chunk, best first. `possible` is what the question could earn by its words."""
    pool = list(candidates)
    formula = formula_of(pool, mode, possible, weights)
    best: dict[int, Ranked] = {}
    for candidate in pool:
        ranked = _rank(candidate, formula)
        former = best.get(candidate.drawer)
        if former is None or order_of(ranked) < order_of(former):
            best[candidate.drawer] = ranked
    return sorted(best.values(), key=order_of)


def explain(candidate: Candidate, score: float, formula: Formula) -> dict[str, float]:
    """What makes up a score, by its source; the values add up to it."""
    parts = dict(zip(("words", "meaning", "match"), formula.shares(candidate), strict=True))
    parts["around"] = formula.relevance(candidate) - sum(parts.values())
    parts["date"] = candidate.timely
    parts["identifier"] = formula.bonus(candidate)
    parts["superseded"] = score - sum(parts.values())
    return parts


def sort_by_relevance(
    candidates: Iterable[Candidate], mode: SearchMode, possible: float, weights: Weights
) -> list[Candidate]:
    """The candidates, best first."""
    pool = list(candidates)
    formula = formula_of(pool, mode, possible, weights)
    return sorted(pool, key=lambda each: (-formula.relevance(each), each.chunk))


def formula_of(pool: Iterable[Candidate], mode: SearchMode, possible: float, weights: Weights) -> Formula:
    """The formula for these candidates of one search."""
    known = list(pool)
    scale = max([weights.least_scale, weights.possible * possible, *(each.bm25 for each in known)])
    cosine = _usual(each.cosine for each in known)
    return Formula(mode, scale or 1.0, weights, cosine, _usual(each.match for each in known))


def _usual(values: Iterable[float | None]) -> float | None:
    """What one of the better candidates has, without which none is proposed; None if none has a value."""
    known = sorted(value for value in values if value is not None)
    return known[int(USUAL * len(known))] if known else None


@dataclass(frozen=True, slots=True)
class Formula:
    """How the signals of one search make a score. `scale` is the bm25 that counts as 1.

    A chunk that is not embedded yet counts with the `usual_cosine` and the `usual_match` of the others.
    """

    mode: SearchMode
    scale: float
    weights: Weights
    usual_cosine: float | None = None
    usual_match: float | None = None

    def words(self, signals: Signals | Candidate) -> float:
        """The share of what the question could earn by its words, from 0 to 1."""
        return min(signals.bm25 / self.scale, 1.0)

    def relevance(self, candidate: Candidate) -> float:
        """About from 0 to 1: of the chunk itself and of the part that it stands in."""
        own = self.blend(candidate)
        if candidate.part is None or self.mode is not SearchMode.HYBRID:
            return own
        return (own + self.weights.part * self.blend(candidate.part)) / (1 + self.weights.part)

    def blend(self, signals: Signals | Candidate) -> float:
        """The signals as one number."""
        return sum(self.shares(signals))

    def shares(self, signals: Signals | Candidate) -> tuple[float, float, float]:
        """What words, meaning and match add to the score; by words alone if no candidate has a vector."""
        words, weights = self.words(signals), self.weights
        cosine, match = signals.cosine, signals.match
        if self.mode is SearchMode.SEMANTIC and cosine is not None:
            return 0.0, cosine, 0.0
        if cosine is None:
            cosine, match = self.usual_cosine, self.usual_match
        if self.mode is not SearchMode.HYBRID or cosine is None:
            return words, 0.0, 0.0
        counted = words**weights.power
        if match is None:
            alone = weights.words_alone
            return alone * counted, (1 - alone) * cosine, 0.0
        return weights.words * counted, weights.meaning * cosine, weights.match * match

    def bonus(self, candidate: Candidate) -> float:
        """What an identifier of the question adds."""
        if self.mode is SearchMode.SEMANTIC:
            return 0.0
        return IDENTIFIER_BONUS if candidate.holds_identifier else KIN_BONUS if candidate.holds_kin else 0.0


def spread(ranked: Sequence[Ranked], sources: Mapping[int, str | None]) -> tuple[list[Ranked], int]:
    """Mix the files; returns the drawers in their new order, and how many of them further ones would not displace.

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
    worst = displaced[0]
    crowding = not worst.is_turn or 2 * counts[sources[worst.chunk] or ""] > len(ranked)
    least = (LEAST_SHARE if crowding else LEAST_SHARE_OF_TURNS) * worst.score
    leading = [each for each in first if each.score >= least]
    mixed = leading + sorted([*displaced, *first[len(leading) :]], key=order_of)
    return mixed, len(leading) if ranked[-1].score >= least else len(mixed)


def _rank(candidate: Candidate, formula: Formula) -> Ranked:
    return Ranked(
        chunk=candidate.chunk,
        drawer=candidate.drawer,
        when=candidate.when,
        score=formula.relevance(candidate) + formula.bonus(candidate) + candidate.timely,
        lexical=formula.words(candidate),
        semantic=candidate.cosine,
        is_turn=candidate.part is not None,
    )


def order_of(ranked: Ranked) -> tuple[float, Instant, int]:
    """By score, newer first among equals."""
    return (-round(ranked.score, 6), -ranked.when, ranked.chunk)
