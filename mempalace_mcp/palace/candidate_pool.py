"""The candidates of a search: what both indexes propose for a query, joined with the live drawers of one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import EmbedderUnavailable, PalaceCorrupt
from mempalace_mcp.core.model import SearchMode
from mempalace_mcp.embedding.token_vectors import TokenVectors, token_match
from mempalace_mcp.palace.arguments import MAX_LIMIT
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder, EmbeddedChunk
from mempalace_mcp.palace.parts import Parts, read_parts
from mempalace_mcp.palace.prepared_query import PreparedQuery
from mempalace_mcp.palace.ranking import Candidate, sort_by_relevance
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.timeliness import LINE_CHARACTERS, day_in_beginning
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkRow
from mempalace_mcp.storage.lexical import Holders, Weighed, find_verbatim
from mempalace_mcp.storage.query_terms import is_symbolic
from mempalace_mcp.storage.token_vectors import token_vectors_of
from mempalace_mcp.storage.word_table import WordsUnreadable

Vector = NDArray[np.float32]

LEADING = 20
"""Candidates whose neighbours are proposed too; 20 to 40 rank alike."""

NO_MATCHES = Weighed({}, Holders())


@dataclass(frozen=True, slots=True)
class Matches:
    """How well tokens of the query are met, by candidate: in its chunk itself, and in the part that it stands in."""

    own: Mapping[int, float]
    parts: Mapping[int, float]


NOT_MATCHED = Matches({}, {})


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


class CandidatePools:
    """Gathers the candidates of queries."""

    def __init__(self, stores: Stores, chunk_embedder: ChunkEmbedder) -> None:
        self._stores = stores
        self._chunk_embedder = chunk_embedder

    def gather(self, connection: Connection, prepared: PreparedQuery, size: int) -> Pool:
        """The best `size` chunks of each index, with all that speaks for them."""
        return self._judged(connection, prepared, self._pool(connection, prepared, size))

    def similar(self, connection: Connection, prepared: PreparedQuery, size: int, threshold: float) -> Pool:
        """The chunks whose cosine with the query is at least the threshold, among the nearest ones."""
        if prepared.vector is None:
            return Pool((), {}, is_cut=False)
        nearest = self._stores.index.nearest(connection, prepared.vector, size, prepared.filter)
        found = {each.chunk: each.cosine for each in nearest}
        found |= _cosines_of(self._fresh(connection, prepared, []), prepared.vector)
        cosines = {chunk: cosine for chunk, cosine in found.items() if cosine >= threshold}
        rows = self._stores.drawers.chunk_rows(connection, list(cosines), prepared.filter)
        return Pool(_candidates(rows, NO_MATCHES, cosines), {row.chunk: row for row in rows}, is_cut=False)

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
        candidates = self._dated(connection, prepared, rows, _candidates(rows, lexical.weighed, cosines))
        degraded = "; ".join(filter(None, (prepared.degraded, lexical.degraded))) or None
        return Pool(candidates, {row.chunk: row for row in rows}, is_cut, degraded, lexical.weighed, successors, fresh)

    def _judged(self, connection: Connection, prepared: PreparedQuery, pool: Pool) -> Pool:
        """The pool with what tells more than the indexes: its tokens, and the parts that short drawers stand in."""
        stores = self._stores
        if prepared.vector is None or prepared.mode is not SearchMode.HYBRID or prepared.asked.times.are_all:
            return pool
        best, parts = pool.candidates, Parts({})
        if stores.weights.part and any(row.source_file is not None for row in pool.rows.values()):
            best = sort_by_relevance(pool.candidates, prepared.mode, pool.weighed.possible, stores.weights)
            pool = self._with_beside(connection, prepared, replace(pool, candidates=best))
            best = pool.candidates
            parts = read_parts(connection, [pool.rows[each.chunk] for each in best], prepared.filter)
        others = [chunk for chunk in parts.chunks if chunk not in pool.rows]
        matches = self._matches(connection, prepared.tokens, best, parts.around, pool.fresh)
        weighed, cosines = pool.weighed, {each.chunk: each.cosine for each in best if each.cosine is not None}
        if others:
            cosines |= stores.index.cosines(connection, prepared.vector, others)
        if parts.around and weighed.possible:
            weighed = self._weighed_among(connection, prepared, weighed, [*pool.rows, *others])
        candidates = [
            replace(
                each,
                bm25=weighed.bm25.get(each.chunk, 0.0),
                match=matches.own.get(each.chunk),
                part=parts.signals(each.chunk, weighed.bm25, cosines, matches.parts.get(each.chunk)),
            )
            for each in best
        ]
        return replace(pool, candidates=candidates, weighed=weighed)

    def _weighed_among(
        self, connection: Connection, prepared: PreparedQuery, weighed: Weighed, chunks: Sequence[int]
    ) -> Weighed:
        """What the words of the query earn among the candidates and what stands around them."""
        among = self._stores.lexicon.weigh_among(connection, prepared.text, chunks)
        return weighed if among is None else replace(weighed, bm25=among.bm25, possible=among.possible)

    def _with_beside(self, connection: Connection, prepared: PreparedQuery, pool: Pool) -> Pool:
        """The pool, first of all with what stands right beside its best candidates: the answer to a question that a
        turn asks may share nothing with it. Superseded drawers and those without a vector are not proposed."""
        best = [pool.rows[each.chunk] for each in pool.candidates[:LEADING]]
        beside = read_parts(connection, best, prepared.filter, reach=1)
        others = [chunk for chunk in beside.chunks if chunk not in pool.rows]
        if prepared.vector is None or not others:
            return pool
        cosines = self._stores.index.cosines(connection, prepared.vector, others)
        found = self._stores.drawers.chunk_rows(connection, list(cosines), prepared.filter)
        rows = [row for row in found if row.superseded_by is None]
        weighed = pool.weighed
        if weighed is not NO_MATCHES:
            further = self._stores.lexicon.weigh_more(connection, prepared.text, weighed, others)
            weighed = replace(weighed, bm25={**further, **weighed.bm25})
        candidates = self._dated(connection, prepared, rows, _candidates(rows, weighed, cosines))
        return replace(
            pool,
            candidates=[*candidates, *pool.candidates],
            rows={**pool.rows, **{row.chunk: row for row in rows}},
            weighed=weighed,
        )

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

    def _dated(
        self, connection: Connection, prepared: PreparedQuery, rows: Sequence[ChunkRow], candidates: list[Candidate]
    ) -> list[Candidate]:
        """The candidates with what they gain by the time that the question names."""
        if not prepared.asked.cares:
            return candidates
        days = self._days(connection, rows)
        return [prepared.asked.weigh(each, days.get(each.drawer, each.when)) for each in candidates]

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

    def _fresh(
        self, connection: Connection, prepared: PreparedQuery, promising: Sequence[int]
    ) -> Mapping[int, EmbeddedChunk]:
        """Chunks that were filed a moment ago and have no stored vector yet."""
        if prepared.vector is None or prepared.stamp is None:
            return {}
        try:
            return self._chunk_embedder.embed_fresh(connection, prepared.filter, promising, prepared.stamp)
        except EmbedderUnavailable:  # it is being closed
            return {}


def _cosines_of(fresh: Mapping[int, EmbeddedChunk], query: Vector) -> dict[int, float]:
    return {chunk: float(embedded.vector @ query) for chunk, embedded in fresh.items()}


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
