"""Which terms of a question decide, and which chunks hold an identifier that it names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.matching import Matching, any_of, count_rows
from mempalace_mcp.storage.terms import Term, kin_of

MAX_TERMS = 64
"""Terms of a question that are looked up one and all."""

MOST_COUNTED = 4_000
"""Terms of a longer one whose rarity is found out, half of them from either end: twenty microseconds for each."""

RARITY_COUNTED = 200
"""How far their rows are counted; terms that as many rows hold are common."""

TELLING_TERMS = 32
"""So many of the rarest decide."""

LEAST_TELLING = 8
"""If fewer terms are rare, common ones fill up this number."""

RARE = 20
"""An identifier that more chunks hold does not single any of them out."""


@dataclass(frozen=True, slots=True)
class Question:
    """Terms by which passages are found; those whose holders must be found; those that may be written longer or
    shorter."""

    terms: tuple[Term, ...] = ()
    exact: tuple[Term, ...] = ()
    names: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Holders:
    """Chunks that hold an identifier or quoted phrase of a question, and those that hold an identifier written longer
    or shorter."""

    whole: frozenset[int] = frozenset()
    kin: frozenset[int] = frozenset()


def short_question(terms: tuple[Term, ...]) -> Question:
    """A question of few terms, all of which count."""
    exact = tuple(term for term in terms if term.exact)
    return Question(terms, tuple(term for term in exact if not term.inner), exact)


def long_question(connection: sqlite3.Connection, terms: Sequence[Term]) -> Question:
    """A question of many terms: the rarest among those that occur decide, as in a stack trace the name at its end."""
    half = MOST_COUNTED // 2
    asked = terms if len(terms) <= MOST_COUNTED else [*terms[:half], *terms[-half:]]
    counts = _rarities(connection, asked)
    occurring = sorted((term for term in asked if counts[term]), key=counts.__getitem__)
    rare = [term for term in occurring if counts[term] < RARITY_COUNTED][:TELLING_TERMS]
    telling = tuple(rare if len(rare) >= LEAST_TELLING else occurring[:LEAST_TELLING])
    names = tuple(term for term in asked if term.name and " " not in term.text)[:MAX_TERMS]
    return Question(telling, tuple(term for term in telling if term.exact and not term.inner), names)


def find_holders(connection: sqlite3.Connection, question: Question, filter: DrawerFilter) -> Holders:
    """Chunks of live drawers matching the filter. Only identifiers count that few chunks hold."""
    if not question.exact and not question.names:
        return Holders()
    matching = Matching(connection, filter, weigh=False)
    whole = _rare_holders(connection, matching, ([term] for term in question.exact))
    kin = _rare_holders(connection, matching, map(kin_of, question.names))
    return Holders(whole, kin - whole)


def _rare_holders(
    connection: sqlite3.Connection, matching: Matching, groups: Iterable[Sequence[Term]]
) -> frozenset[int]:
    """Chunks that hold a term of a group which few chunks hold."""
    found: set[int] = set()
    for group in groups:
        if group and 0 < count_rows(connection, any_of(group), RARE + 1) <= RARE:
            found.update(matching.newest(any_of(group), RARE))
    return frozenset(found)


def _rarities(connection: sqlite3.Connection, terms: Iterable[Term]) -> dict[Term, int]:
    """How many rows hold each term, as far as that is counted. A phrase of nothing but common words counts as absent:
    to look for it takes long."""
    words: dict[str, int] = {}

    def count(term: Term) -> int:
        if " " not in term.text:
            return count_rows(connection, term.expression, RARITY_COUNTED)
        for word in term.text.split():
            if word not in words:
                words[word] = count_rows(connection, Term(word).expression, RARITY_COUNTED)
            if not words[word]:
                return 0
        rarest = min(words[word] for word in term.text.split())
        return count_rows(connection, term.expression, RARITY_COUNTED) if rarest < RARITY_COUNTED else 0

    return {term: count(term) for term in terms}
