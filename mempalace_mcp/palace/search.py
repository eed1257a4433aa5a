"""Search by meaning and by words.

A search prepares its query, gathers candidates from the vector index and the full-text index, joins them with the live
drawers of one snapshot, and ranks them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import chain
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core import text
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import (
    EmbedderUnavailable,
    InvalidArgument,
    ModelMismatch,
    ModelMoved,
    PalaceCorrupt,
)
from mempalace_mcp.core.model import (
    Drawer,
    DrawerFilter,
    Duplicate,
    DuplicateReport,
    Hit,
    ModelStamp,
    SearchMode,
    SearchResult,
)
from mempalace_mcp.embedding.token_vectors import TokenVectors, token_match
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.arguments import MAX_LIMIT
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder, EmbeddedChunk
from mempalace_mcp.palace.confidence import Scale, confidence_of, scale_of
from mempalace_mcp.palace.folding import fold
from mempalace_mcp.palace.parts import Parts, read_parts
from mempalace_mcp.palace.ranking import Candidate, Ranked, explain, formula_of, rank, sort_by_relevance, spread
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.succession import yield_to_successors
from mempalace_mcp.palace.timeliness import LINE_CHARACTERS, NOTHING_ASKED, Asked, day_in_beginning
from mempalace_mcp.palace.token_estimate import estimate_tokens, fitting
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkRow
from mempalace_mcp.storage.lexical import Holders, Weighed, find_verbatim
from mempalace_mcp.storage.query_terms import is_symbolic, without_words
from mempalace_mcp.storage.token_vectors import token_vectors_of
from mempalace_mcp.storage.word_table import WordsUnreadable

P = ParamSpec("P")
R = TypeVar("R")

Vector = NDArray[np.float32]

POOL = 50
"""Candidates of each index; 30, 50 and 100 rank alike."""
WIDER_POOL = 500
DUPLICATE_POOL = 20
LOADING_SECONDS = 1.0
"""How long the first search waits for the model to load; then it goes by words alone."""
LONG_QUERY = 2000
"""Characters. Only the two ends of a longer query are embedded."""
QUERY_END = 500
MOST_TELLING = 500
"""Characters. A longer query has enough words that tell."""
MIN_TOKENS = 16
MAX_TOKENS = 100_000


NO_MATCHES = Weighed({}, Holders())


@dataclass(frozen=True, slots=True)
class Matches:
    """How well tokens of the query are met, by candidate: in its chunk itself, and in the part that it stands in."""

    own: Mapping[int, float]
    parts: Mapping[int, float]


NOT_MATCHED = Matches({}, {})


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query ready to be run. `vector` is None for a search by words alone; `degraded` says why it is not by both.

    `stamp` is the model of the vector.
    """

    text: str
    mode: SearchMode
    filter: DrawerFilter
    vector: Vector | None
    degraded: str | None
    stamp: ModelStamp | None = None
    tokens: TokenVectors | None = None
    asked: Asked = NOTHING_ASKED

    @property
    def scale(self) -> Scale:
        """How far the scores of its hits can be trusted."""
        return scale_of(meaning=self.vector is not None, tokens=self.tokens is not None)


@dataclass(frozen=True, slots=True)
class LexicalMatches:
    """The candidates of the full-text index; `degraded` says which may be missing."""

    weighed: Weighed
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of both indexes, with their rows. `is_cut` when an index may have more of them.

    `weighed` has what the words of the query earn, and could. `successors` has what took the place of superseded
    drawers, by row; None where the filter leaves it out. `fresh` are chunks whose vectors are not stored yet.
    """

    candidates: Sequence[Candidate]
    rows: Mapping[int, ChunkRow]
    is_cut: bool
    degraded: str | None = None
    weighed: Weighed = NO_MATCHES
    successors: Mapping[int, int | None] = field(default_factory=dict)
    fresh: Mapping[int, EmbeddedChunk] = field(default_factory=dict)


def _again_after_a_move(method: Callable[P, R]) -> Callable[P, R]:
    """The method, called again if the palace has moved to another model after its query was embedded, or just before.

    The first call may find vectors of another length, the second one that the model for them is not there yet; the
    third waits for that model. A palace whose model this version does not have refuses every time.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(2):
            with suppress(ModelMoved, ModelMismatch):
                return method(*args, **kwargs)
        return method(*args, **kwargs)

    return call


class SearchOperations:
    """The part of the palace that searches drawers and finds duplicates."""

    def __init__(self, stores: Stores, chunk_embedder: ChunkEmbedder) -> None:
        self._stores = stores
        self._chunk_embedder = chunk_embedder

    @_again_after_a_move
    def search(
        self,
        query: str,
        *,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        since: str | None = None,
        before: str | None = None,
        limit: int = 5,
        mode: SearchMode = SearchMode.HYBRID,
        max_tokens: int | None = None,
        min_score: float | None = None,
        explain: bool = False,
        now: str | None = None,
    ) -> SearchResult:
        """The best drawers for a query, each with its best passage. `max_tokens` bounds all passages together.

        Hits below `min_score` are left out. Times that the query names as `last week` are meant as of `now`.
        """
        query = arguments.read_query(query)
        drawer_filter = self._filter(wing, room, source_file, since, before)
        arguments.read_limit(limit)
        if max_tokens is not None:
            arguments.read_limit(max_tokens, "max_tokens", MAX_TOKENS, MIN_TOKENS)
        if min_score is not None:
            arguments.read_share(min_score, "min_score", "0.2 leaves out what probably does not answer.")
        mode = SearchMode(mode)
        asked = self._asked(query, mode, now)
        meant = query if mode is SearchMode.KEYWORD else self._telling(query, drawer_filter)
        prepared = replace(self._prepare(query, mode, drawer_filter, meant), asked=asked)
        with self._stores.search_limiter.turn(), self._stores.reader.read() as connection:
            prepared = self._verified(connection, prepared)
            found, degraded = self._best_hits(connection, prepared, limit, explained=explain)
            pending = self._stores.drawers.pending_count(connection)
        best = max((hit.score for hit in found), default=0.0)
        hits = [hit for hit in found if min_score is None or hit.score >= min_score]
        kept = hits if max_tokens is None else _fit(hits, max_tokens)
        return SearchResult(
            hits=kept,
            mode=prepared.mode,
            degraded=degraded,
            pending=pending,
            truncated=kept != hits,
            confidence=confidence_of(best, prepared.scale) if found else 0.0,
            nothing_covers=best < prepared.scale.covered,
        )

    @_again_after_a_move
    def check_duplicate(
        self, content: str, *, threshold: float = 0.9, wing: str | None = None, room: str | None = None
    ) -> DuplicateReport:
        """Live drawers with the same content, or whose cosine with its beginning is at least `threshold`."""
        text.verify_content(content)
        arguments.read_share(threshold, "threshold", "0.9 finds near copies.")
        drawer_filter = self._filter(wing, room, None, None, None)
        spans = chunking.split(content)
        beginning = content[spans[0].start : spans[0].stop] if spans else ""
        mode = SearchMode.HYBRID if spans else SearchMode.KEYWORD
        prepared = self._prepare(beginning, mode, drawer_filter, meant=beginning)
        with self._stores.search_limiter.turn(), self._stores.reader.read() as connection:
            prepared = self._verified(connection, prepared)
            same = list(self._stores.drawers.duplicates(connection, content, drawer_filter, DUPLICATE_POOL))
            similar = self._similar(connection, prepared, threshold)
        known = {match.drawer.drawer_id for match in same}
        matches = [*same, *(match for match in similar if match.drawer.drawer_id not in known)]
        return DuplicateReport(matches, prepared.degraded)

    def _filter(
        self, wing: str | None, room: str | None, source_file: str | None, since: str | None, before: str | None
    ) -> DrawerFilter:
        drawer_filter = arguments.read_filter(self._stores.calendar, wing, room, source_file, since, before)
        return replace(drawer_filter, within=self._stores.within)

    def _asked(self, query: str, mode: SearchMode, now: str | None) -> Asked:
        """When what the query asks for happened. A search by meaning or by words alone looks at nothing else."""
        calendar = self._stores.calendar
        instant = arguments.read_instant(calendar, now, "now")
        if mode is not SearchMode.HYBRID:
            return NOTHING_ASKED
        return Asked.read(query, calendar.now() if instant is None else instant, calendar.zone)

    def _prepare(self, query: str, mode: SearchMode, drawer_filter: DrawerFilter, meant: str) -> PreparedQuery:
        """Embed what the query means and recent chunks, as far as the mode and the model allow it."""
        if mode is SearchMode.KEYWORD:
            return PreparedQuery(query, mode, drawer_filter, None, None)
        if self._stores.embedder.loading:
            self._stores.embedder.wait(LOADING_SECONDS)
        try:
            embedder = self._stores.embedder.get()
            if not embedder.reads(_ends(query)):
                return self._by_words(query, mode, drawer_filter)
            vector, tokens = embedder.embed_query(_ends(meant)), embedder.query_tokens(_ends(meant))
        except EmbedderUnavailable as error:
            if mode is SearchMode.SEMANTIC:
                raise
            return PreparedQuery(query, mode, drawer_filter, None, f"words only: {error.message}")
        return PreparedQuery(query, mode, drawer_filter, vector, None, embedder.stamp, tokens)

    def _verified(self, connection: Connection, prepared: PreparedQuery) -> PreparedQuery:
        """The query without its vector if the palace has vectors of a model that this version does not have.

        Raises:
            ModelMoved: the query's vector is of the former model.
            ModelMismatch: such a palace cannot be searched by meaning alone.
        """
        if prepared.stamp is None:
            return prepared
        try:
            self._chunk_embedder.check_model(connection, prepared.stamp)
        except ModelMoved:
            raise
        except ModelMismatch as error:
            if prepared.mode is SearchMode.SEMANTIC:
                raise
            return replace(prepared, vector=None, degraded=f"words only: {error.message}; {error.hint}")
        return prepared

    def _fresh(
        self, connection: Connection, prepared: PreparedQuery, promising: Sequence[int]
    ) -> Mapping[int, EmbeddedChunk]:
        """Chunks that were filed a moment ago and have no stored vector yet."""
        if prepared.vector is None:
            return {}
        try:
            return self._chunk_embedder.embed_fresh(connection, prepared.filter, promising)
        except EmbedderUnavailable:  # it is being closed
            return {}

    def _telling(self, query: str, drawer_filter: DrawerFilter) -> str:
        """The query without words that most of the searched passages hold: they tell none of them from the others."""
        if len(query) > MOST_TELLING:
            return query
        share = self._stores.weights.frequent
        try:
            with self._stores.reader.read() as connection:
                frequent = self._stores.lexicon.frequent_words(connection, query, drawer_filter, share)
        except (WordsUnreadable, PalaceCorrupt):  # the search itself says so
            return query
        return without_words(query, frequent)

    @staticmethod
    def _by_words(query: str, mode: SearchMode, drawer_filter: DrawerFilter) -> PreparedQuery:
        """For a query of unknown words: its vector would resemble every other text that the model cannot read."""
        if mode is SearchMode.SEMANTIC:
            raise InvalidArgument(
                "the embedding model knows too few of the query's words to search by meaning",
                argument="query",
                hint="Search with mode hybrid or keyword: words are found in every language.",
            )
        degraded = "words only: the embedding model knows too few words of this text"
        return PreparedQuery(query, mode, drawer_filter, None, degraded)

    def _best_hits(
        self, connection: Connection, prepared: PreparedQuery, limit: int, *, explained: bool
    ) -> tuple[list[Hit], str | None]:
        """The best hits, and what may be missing from them."""
        pool = self._judged(connection, prepared, self._pool(connection, prepared, POOL))
        ranked, settled = self._ranked(pool, prepared)
        if settled < limit and pool.is_cut:
            pool = self._judged(connection, prepared, self._pool(connection, prepared, WIDER_POOL))
            ranked, _ = self._ranked(pool, prepared)
        hits = self._distinct_hits(connection, ranked, pool, limit, prepared.scale)
        return self._explained(hits, prepared, pool) if explained else hits, pool.degraded

    def _distinct_hits(
        self, connection: Connection, ranked: Sequence[Ranked], pool: Pool, limit: int, scale: Scale
    ) -> list[Hit]:
        """The best hits. Near copies of them are looked for among as many again, and folded."""
        looked_at = 2 * limit
        hits = self._hits(connection, ranked[:looked_at], pool, scale)
        while len(folded := fold(hits)) < limit and looked_at < len(ranked):
            hits += self._hits(connection, ranked[looked_at : looked_at + limit], pool, scale)
            looked_at += limit
        return folded[:limit]

    def _explained(self, hits: Sequence[Hit], prepared: PreparedQuery, pool: Pool) -> list[Hit]:
        """The hits with what makes up their scores."""
        formula = formula_of(pool.candidates, prepared.mode, pool.weighed.possible, self._stores.weights)
        places = {row.chunk: (row.drawer_id, row.start) for row in pool.rows.values()}
        candidates = {places[each.chunk]: each for each in pool.candidates}
        return [
            replace(hit, explanation=explain(candidates[hit.drawer.drawer_id, hit.start], hit.score, formula))
            for hit in hits
        ]

    def _ranked(self, pool: Pool, prepared: PreparedQuery) -> tuple[list[Ranked], int]:
        """The drawers of a pool, best first, and how many of them a wider pool would not change."""
        ranked = rank(pool.candidates, prepared.mode, pool.weighed.possible, self._stores.weights)
        if not prepared.asked.times.are_all:  # what was said then is asked for, whatever came after
            ranked = yield_to_successors(ranked, pool.successors)
        ranked = prepared.asked.order(ranked)
        if prepared.filter.source_file is not None:
            return ranked, len(ranked)
        return spread(ranked, {chunk: row.source_file for chunk, row in pool.rows.items()})

    def _pool(self, connection: Connection, prepared: PreparedQuery, size: int) -> Pool:
        """The best `size` chunks of each index, with the scores of the other index, joined with the live drawers."""
        index = self._stores.index
        lexical = LexicalMatches(NO_MATCHES)
        cosines: dict[int, float] = {}
        fresh: Mapping[int, EmbeddedChunk] = {}
        timely = [] if prepared.asked.times.periods == () else self._timely(connection, prepared, size)
        if prepared.vector is not None:
            nearest = index.nearest(connection, prepared.vector, size, prepared.filter)
            cosines = {neighbour.chunk: neighbour.cosine for neighbour in nearest}
        if prepared.mode is not SearchMode.SEMANTIC:
            lexical = self._lexical(connection, prepared, size, [*cosines, *timely])
        bm25 = lexical.weighed.bm25
        is_cut = max(len(bm25), len(cosines)) >= size
        if prepared.vector is not None:
            missing = [chunk for chunk in dict.fromkeys([*bm25, *timely]) if chunk not in cosines]
            cosines |= index.cosines(connection, prepared.vector, missing)
            by_words = sorted(bm25, key=bm25.__getitem__, reverse=True)
            fresh = self._fresh(connection, prepared, [chunk for chunk in by_words if chunk not in cosines])
            cosines |= _cosines_of(fresh, prepared.vector)
        chunks = dict.fromkeys([*bm25, *cosines, *timely])
        rows = self._stores.drawers.chunk_rows(connection, list(chunks), prepared.filter)
        successors, joined = self._successors(connection, prepared, rows)
        rows += joined
        if prepared.vector is not None:
            cosines |= index.cosines(connection, prepared.vector, [row.chunk for row in joined])
        candidates = _candidates(rows, lexical.weighed, cosines)
        if prepared.asked.cares:
            days = self._days(connection, rows)
            candidates = [prepared.asked.weigh(each, days.get(each.drawer, each.when)) for each in candidates]
        degraded = "; ".join(filter(None, (prepared.degraded, lexical.degraded))) or None
        return Pool(candidates, {row.chunk: row for row in rows}, is_cut, degraded, lexical.weighed, successors, fresh)

    def _judged(self, connection: Connection, prepared: PreparedQuery, pool: Pool) -> Pool:
        """The pool with what tells more than the indexes: its tokens, and the parts that short drawers stand in."""
        stores = self._stores
        if prepared.vector is None or prepared.mode is not SearchMode.HYBRID or prepared.asked.times.are_all:
            return pool
        best = sort_by_relevance(pool.candidates, prepared.mode, pool.weighed.possible, stores.weights)
        parts = Parts({})
        if stores.weights.part:
            parts = read_parts(connection, [pool.rows[each.chunk] for each in best], prepared.filter)
        others = [chunk for chunk in parts.chunks if chunk not in pool.rows]
        matches = self._matches(connection, prepared.tokens, best, parts.around, pool.fresh)
        bm25, cosines = pool.weighed.bm25, {each.chunk: each.cosine for each in best if each.cosine is not None}
        if others:
            cosines |= stores.index.cosines(connection, prepared.vector, others)
        if others and pool.weighed is not NO_MATCHES:
            bm25 = {**stores.lexicon.weigh_more(connection, prepared.text, pool.weighed, others), **bm25}
        candidates = [
            replace(
                each,
                match=matches.own.get(each.chunk),
                part=parts.signals(each.chunk, bm25, cosines, matches.parts.get(each.chunk)),
            )
            for each in best
        ]
        return replace(pool, candidates=candidates)

    def _matches(
        self,
        connection: Connection,
        tokens: TokenVectors | None,
        candidates: Sequence[Candidate],
        around: Mapping[int, Sequence[int]],
        fresh: Mapping[int, EmbeddedChunk],
    ) -> Matches:
        """How well candidates and their parts meet the tokens of the query. As long as some of them have no token
        vectors none is matched: the others would be on another scale."""
        if tokens is None or not self._stores.weights.match:
            return NOT_MATCHED
        own = [each.chunk for each in candidates if each.cosine is not None]
        packed = token_vectors_of(connection, list({*own, *chain.from_iterable(around.values())}))
        packed |= {chunk: embedded.tokens for chunk, embedded in fresh.items() if embedded.tokens is not None}
        if not all(chunk in packed for chunk in own):
            return NOT_MATCHED
        united = [b"".join(packed.get(chunk, b"") for chunk in chunks) for chunks in around.values()]
        scores = token_match(tokens, [*(packed[chunk] for chunk in own), *united]).tolist()
        return Matches(dict(zip(own, scores, strict=False)), dict(zip(around, scores[len(own) :], strict=True)))

    def _successors(
        self, connection: Connection, prepared: PreparedQuery, rows: Sequence[ChunkRow]
    ) -> tuple[dict[int, int | None], list[ChunkRow]]:
        """Which drawers of a pool took the place of others, by row, and the chunks of those that it lacks."""
        superseded = {row.drawer_id for row in rows if row.superseded_by is not None}
        if not superseded:
            return {}, []
        drawers = self._stores.drawers
        newest = drawers.successors(connection, list(superseded))
        there = {row.drawer_id for row in rows}
        lacking = drawers.chunks_of(connection, [each for each in set(newest.values()) if each not in there])
        joined = drawers.chunk_rows(connection, lacking, prepared.filter)
        known = {row.drawer_id: row.drawer for row in (*rows, *joined)}
        return {known[old]: known.get(new) for old, new in newest.items()}, joined

    def _timely(self, connection: Connection, prepared: PreparedQuery, size: int) -> list[int]:
        """The best chunks of the times that the query names; if it names nothing else, those of the newest drawers."""
        found: list[int] = []
        for since, before in prepared.asked.windows(prepared.filter):
            within = replace(prepared.filter, since=since, before=before)
            if prepared.asked.times.are_all:
                found += self._stores.drawers.newest_chunks(connection, within, MAX_LIMIT)
                continue
            if prepared.vector is not None:
                found += [each.chunk for each in self._stores.index.nearest(connection, prepared.vector, size, within)]
            found += self._lexical(connection, replace(prepared, filter=within), size, ()).weighed.bm25
        return found

    def _days(self, connection: Connection, rows: Sequence[ChunkRow]) -> dict[int, Instant]:
        """The days, by drawer, that the first lines of drawers without a date name."""
        drawers = list({row.drawer for row in rows})
        begun = self._stores.drawers.undated_beginnings(connection, drawers, LINE_CHARACTERS)
        days = {drawer: day_in_beginning(content, self._stores.calendar.zone) for drawer, content in begun.items()}
        return {drawer: day for drawer, day in days.items() if day is not None}

    def _lexical(
        self, connection: Connection, prepared: PreparedQuery, size: int, others: Collection[int]
    ) -> LexicalMatches:
        """The best chunks by words, and the bm25 of `others`. A damaged index is skipped if there is a vector."""
        try:
            weighed = self._stores.lexicon.weigh(connection, prepared.text, size, prepared.filter, others)
        except (WordsUnreadable, PalaceCorrupt):
            if prepared.vector is None:
                raise
            return LexicalMatches(
                NO_MATCHES, "meaning only: the index of words is damaged; run `mempalace-mcp reindex`"
            )
        if not is_symbolic(prepared.text) or any(weighed.bm25.values()):
            return LexicalMatches(weighed)
        found, complete = find_verbatim(connection, prepared.text.strip(), size, prepared.filter)
        degraded = None if complete else "only the latest drawers were looked through for these symbols"
        return LexicalMatches(Weighed(weighed.bm25 | dict.fromkeys(found, 1.0), weighed.holders), degraded)

    def _similar(self, connection: Connection, prepared: PreparedQuery, threshold: float) -> list[Duplicate]:
        if prepared.vector is None:
            return []
        nearest = self._stores.index.nearest(connection, prepared.vector, DUPLICATE_POOL, prepared.filter)
        found = {each.chunk: each.cosine for each in nearest}
        found |= _cosines_of(self._fresh(connection, prepared, []), prepared.vector)
        cosines = {chunk: cosine for chunk, cosine in found.items() if cosine >= threshold}
        rows = self._stores.drawers.chunk_rows(connection, list(cosines), prepared.filter)
        pool = Pool(_candidates(rows, NO_MATCHES, cosines), {row.chunk: row for row in rows}, is_cut=False)
        ranked = rank(pool.candidates, SearchMode.SEMANTIC)
        return [
            Duplicate(hit.drawer, "similar", hit.score) for hit in self._hits(connection, ranked, pool, prepared.scale)
        ]

    def _hits(self, connection: Connection, ranked: Sequence[Ranked], pool: Pool, scale: Scale) -> list[Hit]:
        rows = [pool.rows[each.chunk] for each in ranked]
        drawers = self._stores.drawers.get(connection, [row.drawer_id for row in rows])
        return [_hit(*each, scale) for each in zip(ranked, rows, drawers, strict=True)]


def _cosines_of(fresh: Mapping[int, EmbeddedChunk], query: Vector) -> dict[int, float]:
    return {chunk: float(embedded.vector @ query) for chunk, embedded in fresh.items()}


def _ends(query: str) -> str:
    """The query, or the two ends of a long one: the model reads a page, and a question may follow a long quotation."""
    return query if len(query) <= LONG_QUERY else f"{query[:QUERY_END]}\n{query[-QUERY_END:]}"


def _candidates(rows: Iterable[ChunkRow], weighed: Weighed, cosines: Mapping[int, float]) -> list[Candidate]:
    return [
        Candidate(
            chunk=row.chunk,
            drawer=row.drawer,
            when=row.when_at,
            bm25=weighed.bm25.get(row.chunk, 0.0),
            cosine=cosines.get(row.chunk),
            holds_identifier=row.chunk in weighed.holders.whole,
            holds_kin=row.chunk in weighed.holders.kin,
        )
        for row in rows
    ]


def _hit(ranked: Ranked, row: ChunkRow, drawer: Drawer, scale: Scale) -> Hit:
    return Hit(
        drawer=drawer,
        passage=drawer.content[row.start : row.stop],
        start=row.start,
        score=ranked.score,
        semantic=ranked.semantic,
        lexical=ranked.lexical,
        confidence=confidence_of(ranked.score, scale),
    )


def _fit(hits: list[Hit], tokens: int) -> list[Hit]:
    """The best hits whose passages fit into so many tokens together; the first passage is cut if it does not."""
    kept: list[Hit] = []
    for hit in hits:
        cost = estimate_tokens(hit.passage)
        if cost > tokens:
            if not kept:
                kept.append(replace(hit, passage=hit.passage[: max(1, fitting(hit.passage, tokens))]))
            break
        kept.append(hit)
        tokens -= cost
    return kept
