"""Which rows of a large full-text table are worth scoring for a query.

Scoring every row that holds any word of a query costs a tenth of a second at 100,000 rows, finding rows that hold
several words at once a few milliseconds. So rare words propose all of their rows, ranked by these words alone, and
words in order of rarity propose in groups the rows that hold the whole group, each group large enough to leave few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mempalace_mcp.storage.matching import Matching, Scored, all_of, any_of
from mempalace_mcp.storage.terms import Term

RANKED_SHARE = 0.08
"""How many of a table's rows FTS5 may rank for one search: its bm25() costs a microsecond for each.

At 8 % recall at 10 is 0.9 points below that of ranking every row (LoCoMo, words alone), at 30 % the same, at 3 % 4.8
points below.
"""

LEAST_RANKED, MOST_RANKED = 3_000, 8_000
"""Whatever the share would be."""

NARROW_FACTOR = 2
"""How many times more, if most of them are dropped by a narrow filter before they are ranked."""

DIRECTLY_SCORED = 300
"""Up to this many chunks within a filter are candidates one and all."""

MAX_GROUPS = 3
"""Groups that are tried, and how often one is relaxed; each takes time in proportion to its most frequent word."""


class Proposal:
    """The candidates of one query among the rows that a filter leaves."""

    def __init__(self, terms: Sequence[Term], frequencies: Mapping[Term, int], rows: int, matching: Matching) -> None:
        """`frequencies` tells how many of the table's `rows` hold each term."""
        self._frequencies = frequencies
        self._rows = rows
        self._matching = matching
        self._rarest = sorted(terms, key=frequencies.__getitem__)
        budget = min(MOST_RANKED, max(LEAST_RANKED, round(rows * RANKED_SHARE)))
        budget *= NARROW_FACTOR if matching.narrow else 1
        self._ranking = list(_affordable(self._rarest, frequencies, budget))

    @property
    def partial(self) -> bool:
        """True when ranking by the whole query would exceed the budget."""
        return len(self._ranking) < len(self._rarest)

    def ranked(self, limit: int) -> list[Scored]:
        """The best rows by the terms whose rows are all ranked."""
        return self._matching.best(any_of(self._ranking), limit) if self._ranking else []

    def candidates(self, size: int) -> list[int]:
        """At least `size` rows if that many hold words of the query, the most promising first."""
        few = max(DIRECTLY_SCORED, size)
        if self._matching.share * self._rows <= few:
            everything = self._matching.everything(few + 1)
            if len(everything) <= few:
                return everything
        pool = dict.fromkeys(chunk for chunk, _ in self.ranked(size))
        groups = list(self._groups(size))
        for group in groups:
            pool |= dict.fromkeys(self._matching.newest(all_of(group), size))
        for group in self._relaxed(groups):
            if len(pool) >= size:
                break
            pool |= dict.fromkeys(self._matching.newest(all_of(group), size))
        return list(pool)

    def _groups(self, size: int) -> Iterator[list[Term]]:
        """Terms by rarity, each group closed as soon as few rows can be expected to hold all of it."""
        telling = [term for term in self._rarest if size < self._frequencies[term] <= self._rows / 2] or [*self._rarest]
        for _ in range(MAX_GROUPS):
            group: list[Term] = []
            expected = self._rows * self._matching.share
            while telling and expected > size:
                group.append(telling.pop(0))
                expected *= self._frequencies[group[-1]] / self._rows
            if not group:
                return
            yield group

    def _relaxed(self, groups: Iterable[list[Term]]) -> Iterator[list[Term]]:
        """The first group without its most frequent terms, then without more of them; at last its rarest alone."""
        first = next(iter(groups), self._rarest[:1])
        for length in [*range(len(first) - 1, 1, -1)[:MAX_GROUPS], 1]:
            yield first[:length]


def _affordable(rarest: Iterable[Term], frequencies: Mapping[Term, int], budget: int) -> Iterator[Term]:
    """The rarest terms whose rows together stay within the budget."""
    for term in rarest:
        budget -= frequencies[term]
        if budget < 0:
            return
        yield term
