"""Search by words: the full-text table `passages`, one row per chunk."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.core.zone import UTC_ZONE, Zone
from mempalace_mcp.storage import bm25
from mempalace_mcp.storage.matching import Matching, any_of, count_rows
from mempalace_mcp.storage.passages import Passages, delete_tokens, read_texts
from mempalace_mcp.storage.proposal import Proposal
from mempalace_mcp.storage.questions import (
    MAX_TERMS,
    Holders,
    Question,
    find_holders,
    long_question,
    short_question,
)
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.terms import Term, count_tokens, fold_case, read_query
from mempalace_mcp.storage.tokens import Tokenizer
from mempalace_mcp.storage.transaction import Transaction

SMALL_TABLE = 5_000
"""Up to this many rows every row that matches is scored."""

JOINED_FACTOR = 4
"""Candidates per wanted hit that are joined with their drawers at first, and by how much more if too few live."""

POOL_FACTOR = 4
"""Candidates per wanted hit that are scored again when only part of the query proposed them."""

COMMON = 1_000
"""Rows from which the frequency of a term is remembered, because counting them takes time."""

SHORT_QUERY = 4096
"""Characters; the terms of longer queries are not remembered."""

DRIFT = 0.02
"""Relative growth of the table after which remembered frequencies are counted anew."""


@dataclass(frozen=True, slots=True)
class LexicalHit:
    """A chunk that holds words of the query; a higher bm25 is better."""

    chunk: int
    bm25: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """The bm25 of chunks, and which of them hold an identifier of the query."""

    bm25: dict[int, float]
    holders: Holders


@dataclass(frozen=True, slots=True)
class LexiconStatistics:
    """Searches since the start, those of them that looked at part of the matches only, and what is remembered."""

    searches: int = 0
    partial_searches: int = 0
    frequencies: int = 0
    frequencies_limit: int = 0


@dataclass(frozen=True, slots=True)
class _Term:
    """A term of a query with its tokens as the index holds them."""

    term: Term
    stems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query, and those of its terms that differ as the index holds them."""

    question: Question
    terms: tuple[_Term, ...]


@dataclass(frozen=True, slots=True)
class _Frequency:
    """How many rows held a term when the table had `rows`."""

    count: int
    rows: int


class Lexicon:
    """Words of chunks. Thread-safe; it holds no connection, only counts that it may forget at any time.

    `zone` is the one in which days are words of what happened in them.
    """

    def __init__(self, frequencies: int = 4096, queries: int = 128, zone: Zone = UTC_ZONE) -> None:
        self.zone = zone
        self._frequencies: LruMap[Term, _Frequency] = LruMap(frequencies)
        self._queries: LruMap[str, _Asked] = LruMap(queries)
        self._tokenizer = Tokenizer()
        self._statistics = LexiconStatistics()
        self._lock = threading.Lock()

    def add(self, tx: Transaction, chunk: int, text: str) -> None:
        """Make a chunk findable by the words of a text."""
        tx.connection.execute("INSERT INTO passages (rowid, text) VALUES (?, ?)", (chunk, text))
        bm25.count_change(tx, 1, count_tokens(text))

    def remove(self, tx: Transaction, chunks: Sequence[int]) -> None:
        """Make chunks unfindable; their words stay in the index's files until it is compacted."""
        texts = read_texts(tx.connection, chunks).values()
        tx.connection.execute(
            "DELETE FROM passages WHERE rowid IN (SELECT value FROM json_each(?))", (json_array(chunks),)
        )
        bm25.count_change(tx, -len(texts), -sum(map(count_tokens, texts)))
        delete_tokens(tx, chunks)

    def compact(self, tx: Transaction) -> None:
        """Rewrite the index without what was removed: a quarter of a second per 100,000 short chunks."""
        tx.connection.execute("INSERT INTO passages (passages) VALUES ('optimize')")

    def rebuild(self, tx: Transaction) -> None:
        """Make the index and its totals anew out of the texts it was made of: four seconds per 100,000 short chunks."""
        tx.connection.execute("INSERT INTO passages (passages) VALUES ('rebuild')")
        bm25.count_anew(tx)

    def search(self, connection: sqlite3.Connection, query: str, limit: int, filter: DrawerFilter) -> list[LexicalHit]:
        """The chunks of live drawers matching the filter that answer a query best by its words, best first.

        In a large table only the rarest words propose candidates, beside those that hold all words; the candidates are
        then scored by the whole query.
        """
        collection = bm25.read_collection(connection)
        terms = self._ask(connection, query, collection).terms
        if not terms:
            return []
        if collection.rows <= SMALL_TABLE:
            return self._search_small(connection, terms, limit, filter)[0]
        return self._search_large(connection, terms, limit, filter, collection, ())[0]

    def weigh(
        self, connection: sqlite3.Connection, query: str, limit: int, filter: DrawerFilter, others: Collection[int] = ()
    ) -> Weighed:
        """The bm25 of the chunks that `search` finds, of those that hold an identifier of the query, and of others."""
        collection = bm25.read_collection(connection)
        asked = self._ask(connection, query, collection)
        holders = find_holders(connection, asked.question, filter)
        others = {*others, *holders.whole, *holders.kin}
        hits: list[LexicalHit] = []
        scores: dict[int, float] = {}
        if asked.terms and collection.rows <= SMALL_TABLE:
            hits, scores = self._search_small(connection, asked.terms, limit, filter)
        elif asked.terms:
            hits, scores = self._search_large(connection, asked.terms, limit, filter, collection, others)
        weights = {chunk: scores.get(chunk, 0.0) for chunk in others} | {hit.chunk: hit.bm25 for hit in hits}
        return Weighed(weights, holders)

    def scores(self, connection: sqlite3.Connection, query: str, chunks: Sequence[int]) -> dict[int, float]:
        """The bm25 of given chunks, on the scale of `search`; 0 where no word of the query occurs."""
        collection = bm25.read_collection(connection)
        terms = self._ask(connection, query, collection).terms
        if not terms or not chunks:
            return {}
        frequencies = self._frequencies_of(connection, terms, collection)
        return self._scores(connection, terms, frequencies, collection, chunks)

    def scores_by_tokens(self, connection: sqlite3.Connection) -> bool:
        """Is the table so large that searches score passages by their tokens?"""
        return bm25.read_collection(connection).rows > SMALL_TABLE

    def statistics(self) -> LexiconStatistics:
        """Searches and what is remembered."""
        return replace(self._statistics, frequencies=len(self._frequencies), frequencies_limit=self._frequencies.limit)

    def close(self) -> None:
        """Give back what the tokenizer holds."""
        self._tokenizer.close()

    def _search_small(
        self, connection: sqlite3.Connection, terms: Sequence[_Term], limit: int, filter: DrawerFilter
    ) -> tuple[list[LexicalHit], dict[int, float]]:
        """The hits, and the scores of all rows that match, whoever may see them: joining those with drawers costs more
        than scoring them, so only as many of the best are joined as it takes."""
        self._count_search(partial=False)
        matching = Matching(connection, filter, weigh=False)
        scores = matching.scores(any_of(each.term for each in terms))
        newest_first = sorted(scores.items(), reverse=True)
        ranking = [chunk for chunk, _ in sorted(newest_first, key=itemgetter(1), reverse=True)]
        looked_at = JOINED_FACTOR * limit
        living = matching.living(ranking[:looked_at])
        while len(living) < limit and looked_at < len(ranking):
            looked_at *= JOINED_FACTOR
            living = matching.living(ranking[:looked_at])
        return [LexicalHit(chunk, scores[chunk]) for chunk in living[:limit]], scores

    def _search_large(
        self,
        connection: sqlite3.Connection,
        terms: Sequence[_Term],
        limit: int,
        filter: DrawerFilter,
        collection: bm25.Collection,
        others: Collection[int],
    ) -> tuple[list[LexicalHit], dict[int, float]]:
        """The hits, and the scores of other chunks, which are read and scored together with the candidates."""
        frequencies = self._frequencies_of(connection, terms, collection)
        known = [each for each in terms if frequencies[each.term]]
        matching = Matching(connection, filter, weigh=True)
        proposal = Proposal([each.term for each in known], frequencies, collection.rows, matching)
        self._count_search(proposal.partial)
        candidates = proposal.candidates(limit * POOL_FACTOR) if proposal.partial else []
        asked = list(dict.fromkeys([*candidates, *others]))
        scores = self._scores(connection, known, frequencies, collection, asked) if asked else {}
        if not proposal.partial:
            return [LexicalHit(*row) for row in proposal.ranked(limit)], scores
        best = sorted(((chunk, scores.get(chunk, 0.0)) for chunk in candidates), key=lambda hit: (-hit[1], -hit[0]))
        return [LexicalHit(*hit) for hit in best[:limit] if hit[1] > 0], scores

    def _scores(
        self,
        connection: sqlite3.Connection,
        terms: Sequence[_Term],
        frequencies: Mapping[Term, int],
        collection: bm25.Collection,
        chunks: Sequence[int],
    ) -> dict[int, float]:
        """The bm25 of chunks by all terms of a query, from their tokens."""
        passages = Passages(connection, chunks, self._tokenizer)
        scores = np.zeros(len(passages.chunks))
        for each in terms:
            occurrences = passages.count(each.stems, each.term.prefix)
            earned = collection.saturation(occurrences, passages.lengths)
            scores += collection.weight(frequencies[each.term]) * earned
        return dict(zip(passages.chunks, scores.tolist(), strict=True))

    def _ask(self, connection: sqlite3.Connection, query: str, collection: bm25.Collection) -> _Asked:
        """The query as it is looked up.

        As long as some passages are indexed as earlier versions did it, these versions' terms are among its terms.
        """
        earlier = bool(collection.stale) and not query.isascii()
        known = None if earlier else self._queries.get(query)
        if known is None:
            terms = read_query(query)
            if earlier:
                terms = tuple(dict.fromkeys([*terms, *read_query(query, fold_case)]))
            few = len(terms) <= MAX_TERMS
            question = short_question(terms) if few else long_question(connection, terms)
            known = _Asked(question, self._distinct(question.terms))
            if few and not earlier and len(query) <= SHORT_QUERY:
                self._queries.put(query, known)
        return known

    def _distinct(self, terms: Sequence[Term]) -> tuple[_Term, ...]:
        """One term per sequence of tokens."""
        stems = self._tokenizer.stems([term.text for term in terms]) if terms else []
        distinct: dict[tuple[tuple[str, ...], bool], _Term] = {}
        for term, stem in zip(terms, stems, strict=True):
            if stem:
                distinct.setdefault((stem, term.prefix), _Term(term, stem))
        return tuple(distinct.values())

    def _frequencies_of(
        self, connection: sqlite3.Connection, terms: Sequence[_Term], collection: bm25.Collection
    ) -> dict[Term, int]:
        return {each.term: self._frequency(connection, each.term, collection.rows) for each in terms}

    def _frequency(self, connection: sqlite3.Connection, term: Term, rows: int) -> int:
        known = self._frequencies.get(term)
        if known is not None and abs(rows - known.rows) <= DRIFT * known.rows:
            return known.count
        count = count_rows(connection, term.expression)
        if count >= COMMON:
            self._frequencies.put(term, _Frequency(count, rows))
        return count

    def _count_search(self, partial: bool) -> None:
        with self._lock:
            counted = self._statistics
            self._statistics = replace(
                counted, searches=counted.searches + 1, partial_searches=counted.partial_searches + partial
            )
