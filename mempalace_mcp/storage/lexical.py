"""Search by words: candidates, their bm25, and the chunks that hold an identifier of the query.

To score every row that holds any word of a query takes 0.1 s at 100,000 rows. To find the rows that hold several words
at once takes a few milliseconds. So the rarest words propose all of their rows, ranked by these words alone. Groups of
words, each rare enough together, propose the rows that hold the whole group.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.clock import UTC_ZONE, Zone
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.passage_texts import passage_texts
from mempalace_mcp.storage.queries import condition_of
from mempalace_mcp.storage.query_terms import Term, fold_case, is_asked, kin_of, read_query
from mempalace_mcp.storage.scope_words import LEAST_SAMPLE, ScopeWords
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.word_forms import fold
from mempalace_mcp.storage.word_table import Collection, Matching, Passages, Scored, WordTable, rarity_among

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
        return self._matching.best(self._with_frequencies(self._ranking), limit) if self._ranking else []

    def candidates(self, size: int) -> list[int]:
        """At least `size` rows if that many hold words of the query, the most promising first."""
        few = max(DIRECTLY_SCORED, size)
        if self._matching.share * self._rows <= few:
            everything = self._matching.everything(few + 1)
            if len(everything) <= few:
                return everything
        pool = dict.fromkeys(chunk for chunk, _ in self.ranked(size))
        groups = list(self._groups(size))
        for found in self._matching.newest(list(map(self._with_frequencies, groups)), size):
            pool |= dict.fromkeys(found)
        for group in self._relaxed(groups):
            if len(pool) >= size:
                break
            pool |= dict.fromkeys(*self._matching.newest([self._with_frequencies(group)], size))
        return list(pool)

    def _with_frequencies(self, terms: Iterable[Term]) -> dict[Term, int]:
        return {term: self._frequencies[term] for term in terms}

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
    """The terms of a query: all of them, those whose holders must be found, and names that may be written longer or
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


def long_question(table: WordTable, connection: Connection, terms: Sequence[Term]) -> Question:
    """A question of many terms: the rarest among those that occur decide, as in a stack trace the name at its end."""
    half = MOST_COUNTED // 2
    counted = terms if len(terms) <= MOST_COUNTED else [*terms[:half], *terms[-half:]]
    counts = _rarities(table, connection, counted)
    occurring = sorted((term for term in counted if counts[term]), key=counts.__getitem__)
    rare = [term for term in occurring if counts[term] < RARITY_COUNTED][:TELLING_TERMS]
    telling = tuple(rare if len(rare) >= LEAST_TELLING else occurring[:LEAST_TELLING])
    names = tuple(term for term in counted if term.name and " " not in term.text)[:MAX_TERMS]
    return Question(telling, tuple(term for term in telling if term.exact and not term.inner), names)


def find_holders(table: WordTable, connection: Connection, question: Question, filter: DrawerFilter) -> Holders:
    """Chunks of live drawers matching the filter. Only identifiers count that few chunks hold."""
    if not question.exact and not question.names:
        return Holders()
    matching = table.matching(connection, filter, weigh=False)
    groups = [*([term] for term in question.exact), *map(kin_of, question.names)]
    found = matching.rare(groups, RARE)
    whole = frozenset(chain.from_iterable(found[: len(question.exact)]))
    return Holders(whole, frozenset(chain.from_iterable(found[len(question.exact) :])) - whole)


def _rarities(table: WordTable, connection: Connection, terms: Iterable[Term]) -> dict[Term, int]:
    """How many rows hold each term, as far as that is counted. A phrase of nothing but common words counts as absent:
    to look for it takes long."""
    words = dict.fromkeys(Term(word) for term in terms for word in term.text.split())
    counts = table.counts(connection, list(words), RARITY_COUNTED)
    rarest = {term: min((counts[Term(word)] for word in term.text.split()), default=0) for term in terms}
    phrases = [term for term, count in rarest.items() if " " in term.text and 0 < count < RARITY_COUNTED]
    beginnings = [term for term in terms if " " not in term.text and term.prefix]
    plain = {term: count for term, count in rarest.items() if " " not in term.text}
    return dict.fromkeys(terms, 0) | plain | table.counts(connection, [*phrases, *beginnings], RARITY_COUNTED)


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
    """The bm25 of chunks, and which of them hold an identifier of the query.

    `possible` is about what a passage earns that holds each word of the query. `all_matches` has the bm25 of every
    passage that holds a word of it, if the table is small.
    """

    bm25: dict[int, float]
    holders: Holders
    possible: float = 0.0
    all_matches: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Among:
    """The bm25 of some chunks, whose words weigh the more, the fewer of these chunks hold them; and what it could be.

    What is rare in a palace may be all that one conversation is about.
    """

    bm25: dict[int, float]
    possible: float


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
class _ParsedQuery:
    """A query, those of its terms that differ as the index holds them, and which of these are words of it."""

    question: Question
    terms: tuple[_Term, ...]
    words: frozenset[_Term]


@dataclass(frozen=True, slots=True)
class _Frequency:
    """How many rows held a term when the table had `rows`."""

    count: int
    rows: int


class Lexicon:
    """Words of chunks. Thread-safe; it holds no connection, only counts that it may forget at any time.

    `zone` is the one in which days are words of what happened in them.
    """

    def __init__(self, table: WordTable, frequencies: int = 4096, queries: int = 128, zone: Zone = UTC_ZONE) -> None:
        self.table = table
        self.zone = zone
        self._frequencies: LruMap[Term, _Frequency] = LruMap(frequencies)
        self._queries: LruMap[str, _ParsedQuery] = LruMap(queries)
        self._tokenizer = table.new_tokenizer()
        self._scopes = ScopeWords(table, self._tokenizer)
        self._statistics = LexiconStatistics()
        self._lock = threading.Lock()

    def search(self, connection: Connection, query: str, limit: int, filter: DrawerFilter) -> list[LexicalHit]:
        """The chunks of live drawers matching the filter that answer a query best by its words, best first.

        In a large table only the rarest words propose candidates, beside those that hold all words; the candidates are
        then scored by the whole query.
        """
        collection = self.table.collection(connection)
        terms = self._parse(connection, query, collection).terms
        if not terms:
            return []
        if collection.rows <= SMALL_TABLE:
            return self._search_small(connection, terms, limit, filter)[0]
        return self._search_large(connection, terms, limit, filter, collection, ())[0]

    def weigh(
        self, connection: Connection, query: str, limit: int, filter: DrawerFilter, others: Iterable[int] = ()
    ) -> Weighed:
        """The bm25 of the chunks that `search` finds, of those that hold an identifier of the query, and of others."""
        collection = self.table.collection(connection)
        parsed = self._parse(connection, query, collection)
        holders = find_holders(self.table, connection, parsed.question, filter)
        others = {*others, *holders.whole, *holders.kin}
        hits: list[LexicalHit] = []
        scores: dict[int, float] = {}
        if parsed.terms and collection.rows <= SMALL_TABLE:
            hits, scores = self._search_small(connection, parsed.terms, limit, filter)
        elif parsed.terms:
            hits, scores = self._search_large(connection, parsed.terms, limit, filter, collection, others)
        weights = {chunk: scores.get(chunk, 0.0) for chunk in others} | {hit.chunk: hit.bm25 for hit in hits}
        possible = self._possible(connection, parsed, collection)
        return Weighed(weights, holders, possible, scores if collection.rows <= SMALL_TABLE else None)

    def weigh_more(
        self, connection: Connection, query: str, weighed: Weighed, chunks: Sequence[int]
    ) -> Mapping[int, float]:
        """The bm25 of further chunks, in the snapshot in which the query was weighed."""
        if weighed.all_matches is not None:
            return weighed.all_matches
        return self.scores(connection, query, chunks)

    def weigh_among(self, connection: Connection, query: str, chunks: Sequence[int]) -> Among | None:
        """The bm25 of chunks as if there were no others; None if the query has no words."""
        collection = self.table.collection(connection)
        parsed = self._parse(connection, query, collection)
        if not parsed.terms:
            return None
        scores, possible = np.zeros(len(chunks)), 0.0
        for each, earned in zip(parsed.terms, self._earned(connection, parsed.terms, collection, chunks), strict=True):
            holders = int(np.count_nonzero(earned))
            weight = rarity_among(len(chunks), holders)
            scores += weight * earned
            possible += weight if holders or each in parsed.words else 0.0
        return Among(dict(zip(chunks, scores.tolist(), strict=True)), possible)

    def frequent_words(self, connection: Connection, query: str, filter: DrawerFilter, share: float) -> frozenset[str]:
        """Words of a query that more than such a share of the passages within the filter hold; none if these are more
        than half of its words."""
        collection = self.table.collection(connection)
        words = [each for each in self._parse(connection, query, collection).words if len(each.stems) == 1]
        if filter.is_empty:
            counts = self._frequencies_of(connection, words, collection, estimated=True)
            held = [each for each in words if counts[each.term] > share * max(collection.rows, LEAST_SAMPLE)]
        else:
            sample = self._scopes.sample(connection, filter, collection.rows)
            held = [each for each in words if sample is not None and sample.share(each.stems[0]) > share]
        return frozenset(each.term.text for each in held) if 2 * len(held) <= len(words) else frozenset()

    def scores(self, connection: Connection, query: str, chunks: Sequence[int]) -> dict[int, float]:
        """The bm25 of given chunks, on the scale of `search`; 0 where no word of the query occurs."""
        collection = self.table.collection(connection)
        terms = self._parse(connection, query, collection).terms
        if not terms or not chunks:
            return {}
        frequencies = self._frequencies_of(connection, terms, collection)
        return self._scores(connection, terms, frequencies, collection, chunks)

    def scores_by_tokens(self, connection: Connection) -> bool:
        """Is the table so large that tokens must be kept, by which searches score passages?"""
        return not self.table.keeps_tokens and self.table.collection(connection).rows > SMALL_TABLE

    def statistics(self) -> LexiconStatistics:
        """Searches and what is remembered."""
        return replace(self._statistics, frequencies=len(self._frequencies), frequencies_limit=self._frequencies.limit)

    def close(self) -> None:
        """Give back what the tokenizer holds."""
        self._tokenizer.close()

    def _search_small(
        self, connection: Connection, terms: Sequence[_Term], limit: int, filter: DrawerFilter
    ) -> tuple[list[LexicalHit], dict[int, float]]:
        """The hits, and the scores of all rows that match, within the filter or not.

        To join a row with its drawer takes longer than to score it, so only as many of the best are joined as needed.
        """
        self._count_search(partial=False)
        matching = self.table.matching(connection, filter, weigh=False)
        scores = matching.scores(each.term for each in terms)
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
        connection: Connection,
        terms: Sequence[_Term],
        limit: int,
        filter: DrawerFilter,
        collection: Collection,
        others: Iterable[int],
    ) -> tuple[list[LexicalHit], dict[int, float]]:
        """The hits, and the scores of other chunks, which are read and scored together with the candidates."""
        frequencies = self._frequencies_of(connection, terms, collection)
        known = [each for each in terms if frequencies[each.term]]
        matching = self.table.matching(connection, filter, weigh=True)
        proposal = Proposal([each.term for each in known], frequencies, collection.rows, matching)
        self._count_search(proposal.partial)
        candidates = proposal.candidates(limit * POOL_FACTOR) if proposal.partial else []
        scored = list(dict.fromkeys([*candidates, *others]))
        scores = self._scores(connection, known, frequencies, collection, scored) if scored else {}
        if not proposal.partial:
            return [LexicalHit(*row) for row in proposal.ranked(limit)], scores
        best = sorted(((chunk, scores.get(chunk, 0.0)) for chunk in candidates), key=lambda hit: (-hit[1], -hit[0]))
        return [LexicalHit(*hit) for hit in best[:limit] if hit[1] > 0], scores

    def _scores(
        self,
        connection: Connection,
        terms: Sequence[_Term],
        frequencies: Mapping[Term, int],
        collection: Collection,
        chunks: Sequence[int],
    ) -> dict[int, float]:
        """The bm25 of chunks by all terms of a query, from their tokens."""
        passages = Passages(self.table, connection, chunks, self._tokenizer)
        scores = np.zeros(len(passages.chunks))
        for each in terms:
            occurrences = passages.count(each.stems, each.term.prefix)
            earned = collection.saturation(occurrences, passages.lengths)
            scores += collection.weight(frequencies[each.term]) * earned
        return dict(zip(passages.chunks, scores.tolist(), strict=True))

    def _earned(
        self, connection: Connection, terms: Sequence[_Term], collection: Collection, chunks: Sequence[int]
    ) -> Iterator[npt.NDArray[np.float64]]:
        """For each term the share of its weight that it earns in each chunk; 0 where it does not occur."""
        if collection.rows > SMALL_TABLE or self.table.keeps_tokens:
            passages = Passages(self.table, connection, chunks, self._tokenizer)
            places = {chunk: place for place, chunk in enumerate(chunks)}
            indexed = [places[chunk] for chunk in passages.chunks]
            for each in terms:
                earned = np.zeros(len(chunks))
                earned[indexed] = collection.saturation(passages.count(each.stems, each.term.prefix), passages.lengths)
                yield earned
            return
        matching = self.table.matching(connection, DrawerFilter(), weigh=False)  # no tokens are kept of a small table
        for each in terms:
            scores = matching.scores([each.term])
            yield np.array([scores.get(chunk, 0.0) for chunk in chunks]) / collection.weight(len(scores))

    def _parse(self, connection: Connection, query: str, collection: Collection) -> _ParsedQuery:
        """The query as it is looked up.

        As long as some passages are indexed as earlier versions did it, these versions' terms are among its terms.
        """
        earlier = bool(collection.stale) and not query.isascii()
        parsed = None if earlier else self._queries.get(query)
        if parsed is None:
            terms = read_query(query)
            if earlier:
                terms = tuple(dict.fromkeys([*terms, *read_query(query, fold_case)]))
            few = len(terms) <= MAX_TERMS
            question = short_question(terms) if few else long_question(self.table, connection, terms)
            distinct, asked = self._distinct(question.terms), fold(query)
            parsed = _ParsedQuery(
                question, distinct, frozenset(each for each in distinct if is_asked(each.term, asked))
            )
            if few and not earlier and len(query) <= SHORT_QUERY:
                self._queries.put(query, parsed)
        return parsed

    def _distinct(self, terms: Sequence[Term]) -> tuple[_Term, ...]:
        """One term per sequence of tokens."""
        stems = self._tokenizer.stems([term.text for term in terms]) if terms else []
        distinct: dict[tuple[tuple[str, ...], bool], _Term] = {}
        for term, stem in zip(terms, stems, strict=True):
            if stem:
                distinct.setdefault((stem, term.prefix), _Term(term, stem))
        return tuple(distinct.values())

    def _possible(self, connection: Connection, parsed: _ParsedQuery, collection: Collection) -> float:
        """The weight of the words of a query and of its other terms that occur. A word that occurs nowhere weighs most:
        what lacks it does not answer."""
        counts = self._frequencies_of(connection, parsed.terms, collection, estimated=True)
        counted = (each for each in parsed.terms if counts[each.term] or each in parsed.words)
        return sum(collection.weight(counts[each.term]) for each in counted)

    def _frequencies_of(
        self, connection: Connection, terms: Sequence[_Term], collection: Collection, *, estimated: bool = False
    ) -> dict[Term, int]:
        """How many rows hold the terms. A count that takes no time may be remembered only as an estimate."""
        rows = collection.rows
        counts: dict[Term, int] = {}
        for each in terms:
            known = self._frequencies.get(each.term)
            is_good = known is not None and abs(rows - known.rows) <= DRIFT * known.rows
            if known is not None and is_good and (estimated or known.count >= COMMON):
                counts[each.term] = known.count
        new = self.table.counts(connection, [each.term for each in terms if each.term not in counts])
        for term, count in new.items():
            self._frequencies.put(term, _Frequency(count, rows))
        return counts | new

    def _count_search(self, partial: bool) -> None:
        with self._lock:
            counted = self._statistics
            self._statistics = replace(
                counted, searches=counted.searches + 1, partial_searches=counted.partial_searches + partial
            )


def reword_stale(tx: Transaction, lexicon: Lexicon, limit: int) -> int:
    """Index up to `limit` passages anew that an earlier version has indexed; returns how many were looked at.

    Progress is kept, so a process that ends in between loses nothing. No stamp is drawn: no content has changed.
    """
    connection, table = tx.connection, lexicon.table
    stale = table.collection(connection).stale
    if not stale:
        return 0
    chunks = connection.execute(
        "SELECT id, drawer, start, stop FROM chunks WHERE id <= ? ORDER BY id DESC LIMIT ?", (stale, limit)
    ).fetchall()
    new = passage_texts(connection, chunks, lexicon.zone)
    changed = table.differing(connection, new)
    table.remove(tx, changed)
    for chunk in changed:
        table.add(tx, chunk, new[chunk])
    table.set_stale(tx, chunks[-1][0] - 1 if len(chunks) == limit else 0)
    return max(len(chunks), 1)


VERBATIM_SECONDS = 0.3
"""How long contents are read: some 100,000 short drawers."""


def find_verbatim(
    connection: Connection, text: str, limit: int, filter: DrawerFilter, seconds: float = VERBATIM_SECONDS
) -> tuple[list[int], bool]:
    """The chunks of up to `limit` live drawers that hold a text as it is, the latest first, and whether all that came
    into question were read."""
    condition = condition_of(filter, connection.dialect)
    rows = connection.execute(
        f"SELECT d.id, {connection.dialect.position('d.content', ':text')} FROM drawers d"
        f" WHERE {condition.sql} ORDER BY d.id DESC",
        condition.values | {"text": text},
    )
    end = time.monotonic() + seconds
    found: list[int] = []
    for drawer, place in rows:
        if place:
            chunk = connection.execute(
                "SELECT id FROM chunks WHERE drawer = ? ORDER BY start >= ?, start DESC LIMIT 1", (drawer, place)
            ).fetchone()
            found += chunk or ()
        if len(found) == limit:
            break
        if time.monotonic() > end:
            return found, False
    return found, True
