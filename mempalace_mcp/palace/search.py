"""Search by meaning and by words.

A search prepares its query (`prepared_query.py`), gathers candidates from both indexes (`candidate_pool.py`), and ranks
them (`ranking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import ParamSpec, TypeVar

from mempalace_mcp.core import text
from mempalace_mcp.core.clock import Calendar
from mempalace_mcp.core.errors import ModelMismatch, ModelMoved
from mempalace_mcp.core.model import (
    Drawer,
    DrawerFilter,
    Duplicate,
    DuplicateReport,
    Hit,
    SearchMode,
    SearchResult,
    Span,
)
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.candidate_pool import CandidatePools, Pool
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.confidence import Scale, confidence_of
from mempalace_mcp.palace.folding import fold
from mempalace_mcp.palace.passages import passage_around
from mempalace_mcp.palace.prepared_query import PreparedQuery, QueryPreparation
from mempalace_mcp.palace.ranking import Ranked, explain, formula_of, rank, spread
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.succession import yield_to_successors
from mempalace_mcp.palace.token_estimate import estimate_tokens, fitting
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkRow

P = ParamSpec("P")
R = TypeVar("R")

POOL = 50
"""Candidates of each index; 30, 50 and 100 rank alike."""
WIDER_POOL = 500
DUPLICATE_POOL = 20
MIN_TOKENS = 16
WIDER_TOKENS = 8000
"""Without `max_tokens`, hits have more than their chunks as long as all passages together cost no more than this."""
MAX_TOKENS = 100_000


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
        self._queries = QueryPreparation(stores)
        self._pools = CandidatePools(stores, chunk_embedder)

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

        Hits below `min_score` are left out. Times as `last week`, in the query and in `since` and `before`, are meant
        as of `now`.
        """
        query = arguments.read_query(query)
        calendar = self._calendar(now)
        drawer_filter = self._filter(calendar, wing, room, source_file, since, before)
        arguments.read_limit(limit)
        if max_tokens is not None:
            arguments.read_limit(max_tokens, "max_tokens", MAX_TOKENS, MIN_TOKENS)
        if min_score is not None:
            arguments.read_share(min_score, "min_score", "0.2 leaves out what probably does not answer.")
        mode = SearchMode(mode)
        prepared = self._queries.prepare(query, mode, drawer_filter, calendar)
        with self._stores.search_limiter.turn(), self._stores.reader.read() as connection:
            prepared = self._verified(connection, prepared)
            found, degraded = self._best_hits(connection, prepared, limit, explained=explain)
            pending = self._stores.drawers.pending_count(connection)
        best = max((hit.score for hit in found), default=0.0)
        hits = [hit for hit in found if min_score is None or hit.score >= min_score]
        kept = hits if max_tokens is None else _fit(hits, max_tokens)
        return SearchResult(
            hits=_widened(kept, WIDER_TOKENS if max_tokens is None else max_tokens),
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
        drawer_filter = self._filter(self._stores.calendar, wing, room)
        spans = chunking.split(content)
        beginning = content[spans[0].start : spans[0].stop] if spans else ""
        mode = SearchMode.HYBRID if spans else SearchMode.KEYWORD
        prepared = self._queries.embed(beginning, mode, drawer_filter, meant=beginning)
        with self._stores.search_limiter.turn(), self._stores.reader.read() as connection:
            prepared = self._verified(connection, prepared)
            same = list(self._stores.drawers.duplicates(connection, content, drawer_filter, DUPLICATE_POOL))
            similar = self._similar(connection, prepared, threshold)
        known = {match.drawer.drawer_id for match in same}
        matches = [*same, *(match for match in similar if match.drawer.drawer_id not in known)]
        return DuplicateReport(matches, prepared.degraded)

    def _calendar(self, now: str | None) -> Calendar:
        """The palace's calendar as of `now`, or of the present."""
        instant = arguments.read_instant(self._stores.calendar, now, "now")
        return self._stores.calendar if instant is None else self._stores.calendar.at(instant)

    def _filter(self, calendar: Calendar, *names: str | None) -> DrawerFilter:
        return replace(arguments.read_filter(calendar, *names), within=self._stores.within)

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

    def _best_hits(
        self, connection: Connection, prepared: PreparedQuery, limit: int, *, explained: bool
    ) -> tuple[list[Hit], str | None]:
        """The best hits, and what may be missing from them."""
        pool = self._pools.gather(connection, prepared, POOL)
        ranked, settled = self._ranked(pool, prepared)
        if settled < limit and pool.is_cut:
            pool = self._pools.gather(connection, prepared, WIDER_POOL)
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
        # A drawer of the time that the question names is what is asked for, if its successor is of another time.
        of_then = {each.drawer for each in pool.candidates if each.timely > 0}
        successors = {
            old: new
            for old, new in pool.successors.items()
            if not prepared.asked.times.are_all and (old not in of_then or new in of_then)
        }
        ranked = prepared.asked.order(yield_to_successors(ranked, successors))
        if prepared.filter.source_file is not None:
            return ranked, len(ranked)
        return spread(ranked, {chunk: row.source_file for chunk, row in pool.rows.items()})

    def _similar(self, connection: Connection, prepared: PreparedQuery, threshold: float) -> list[Duplicate]:
        pool = self._pools.similar(connection, prepared, DUPLICATE_POOL, threshold)
        ranked = rank(pool.candidates, SearchMode.SEMANTIC)
        hits = self._hits(connection, ranked, pool, prepared.scale)
        return [Duplicate(hit.drawer, "similar", hit.score) for hit in hits]

    def _hits(self, connection: Connection, ranked: Sequence[Ranked], pool: Pool, scale: Scale) -> list[Hit]:
        rows = [pool.rows[each.chunk] for each in ranked]
        drawers = self._stores.drawers.get(connection, [row.drawer_id for row in rows])
        return [_hit(*each, scale) for each in zip(ranked, rows, drawers, strict=True)]


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


def _widened(hits: Sequence[Hit], tokens: int) -> list[Hit]:
    """The hits with more than their chunks, the best first, as long as all passages fit into so many tokens."""
    left = tokens - sum(estimate_tokens(hit.passage) for hit in hits)
    widened: list[Hit] = []
    for hit in hits:
        content = hit.drawer.content
        span = passage_around(content, Span(hit.start, hit.start + len(hit.passage)))
        passage = content[span.start : span.stop]
        cost = estimate_tokens(passage) - estimate_tokens(hit.passage)
        fits = cost <= left
        widened.append(replace(hit, passage=passage, start=span.start) if fits else hit)
        left -= cost if fits else 0
    return widened
