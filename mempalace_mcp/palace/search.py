"""Search by meaning and by words: passages are proposed, scored, joined with the truth, ranked and pooled.

What a dry run has heard already: it stores nothing, and must not count twice what several files hold.

Giving chunks their vectors: after they were acknowledged, never inside a transaction, each model apart.

Finding drawers by meaning and by words: both sides propose, the truth decides what lives, ranking orders.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.disk_set import DiskSet
from mempalace_mcp.core.errors import EmbedderUnavailable, InvalidArgument, ModelMismatch, PalaceCorrupt, PalaceError
from mempalace_mcp.core.model import (
    Chunk,
    Drawer,
    DrawerFilter,
    Duplicate,
    DuplicateReport,
    Hit,
    ModelStamp,
    Priority,
    SearchMode,
    SearchResult,
)
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.importers import Document, rendered
from mempalace_mcp.palace.ranking import BM25_FLOOR, Candidate, Ranked, rank, spread
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.token_estimate import estimate_tokens, fitting
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkRow
from mempalace_mcp.storage.lexical import Holders, Weighed
from mempalace_mcp.storage.query_terms import is_symbolic
from mempalace_mcp.storage.sqlite.connection import is_passing
from mempalace_mcp.storage.sqlite.fulltext import find_verbatim
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.log import REINDEX


class Trial:
    """The records that a dry run has counted, in a temporary file, for there may be many; and the notes it moved."""

    def __init__(self) -> None:
        self._heard = DiskSet()
        self.moved: set[int] = set()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._heard.close()

    def unheard(self, documents: Iterable[Document]) -> list[Document]:
        """The documents without what was heard before; those of which nothing is left are left out."""
        left = []
        for document in documents:
            said = tuple(each for each in document.said if each.key not in self._heard)
            if len(said) == len(document.said):
                left.append(document)
            elif said:
                left.append(replace(document, said=said, content=rendered(said)))
        return left

    def hear(self, documents: Sequence[Document]) -> None:
        """Remember what is said in these."""
        self._heard.update(said.key for document in documents for said in document.said)


FLOOD = 128
"""Times what a search embeds by itself: more than that is left to the indexer.

It is what an agent may have filed a moment before it asks: leaving more than 64 passages to the indexer cost a point of
recall at 10 (LoCoMo, asked at once), embedding 16 of them with each search costs others 60 ms for as long as it lasts.
"""


class Vectorizing:
    """Embeds what is pending and stores the vectors."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._interactive = threading.Lock()
        self._begun = self._ended = 0
        """Batches of searches, counted; the last one that ended well."""

    def embed_pending(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        """Embed up to `limit` pending chunks of that priority and commit their vectors; returns how many.

        Raises:
            EmbedderUnavailable: the model is not loaded.
            ModelMismatch: the palace holds vectors of another model.
            DeadlineExceeded: others were embedding or writing for all that time.
        """
        if priority is Priority.BULK:
            return self._embed(limit, priority, deadline)
        with self._turn(deadline):
            return self._embed(limit, priority, deadline)

    def embed_recent(self, most: int, deadline: Deadline) -> int:
        """Embed what agents filed a moment ago, as far as it goes with `most` chunks; returns how many.

        0 if there is so much that the caller would pay for a flood of somebody else's and still not see its end.
        Callers that come together share one batch: one that was begun after they came has what was there for them.

        Raises:
            EmbedderUnavailable, ModelMismatch, DeadlineExceeded: as `embed_pending`.
        """
        with self._stores.reader.read() as connection:
            self.check_model(connection, self._stores.embedder.get().stamp)
            waiting = self._stores.drawers.pending_counts(connection).interactive
        if not 0 < waiting <= FLOOD * most:
            return 0
        begun = self._begun
        with self._turn(deadline):
            if self._ended > begun:
                return 0
            self._begun += 1
            embedded = self._embed(most, Priority.INTERACTIVE, deadline)
            self._ended = self._begun
            return embedded

    def check_model(self, connection: Connection, stamp: ModelStamp) -> None:
        """Return if the palace's vectors are of this model, or there are none yet.

        Raises:
            ModelMismatch: they are of another.
        """
        stored = self._stores.drawers.model_stamp(connection)
        if stored is not None and stored != stamp:
            raise ModelMismatch(
                f"the palace's vectors are of {_describe(stored)}, this program embeds with {_describe(stamp)}",
                hint=f"{REINDEX} Search by words works meanwhile.",
            )

    @contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        """Embed what agents filed with nobody else doing it; whoever does may be waiting to write what came of it."""
        while not self._interactive.acquire(timeout=deadline.remaining):
            deadline.check("those who embed")
        try:
            yield
        finally:
            self._interactive.release()

    def forget_vectors(self, deadline: Deadline) -> int:
        """Make every live chunk pending again and forget the model; returns how many."""
        return self._stores.writer.write(self._stores.drawers.forget_vectors, deadline)

    def _embed(self, limit: int, priority: Priority, deadline: Deadline) -> int:
        embedder = self._stores.embedder.get()
        with self._stores.reader.read() as connection:
            chunks = self._stores.drawers.pending(connection, limit, priority)
            self.check_model(connection, embedder.stamp)
        return self._store(chunks, embedder, deadline) if chunks else 0

    def _store(self, chunks: list[Chunk], embedder: Embedder, deadline: Deadline) -> int:
        vectors = embedder.embed([chunk.text for chunk in chunks])
        rows = [(chunk.chunk, vector.tobytes()) for chunk, vector in zip(chunks, vectors, strict=True)]
        drawers = self._stores.drawers

        def work(tx: Transaction) -> int:
            self.check_model(tx.connection, embedder.stamp)
            if drawers.model_stamp(tx.connection) is None:
                drawers.set_model_stamp(tx, embedder.stamp)
            return drawers.store_vectors(tx, rows)

        return self._stores.writer.write(work, deadline)


def _describe(stamp: ModelStamp) -> str:
    return f"{stamp.name} ({stamp.quantization}, {stamp.dimension} dimensions)"


Vector = NDArray[np.float32]

POOL = 50
"""Chunks that each side proposes; 30, 50 and 100 rank alike."""
WIDER_POOL = 500
PENDING_AT_ONCE = 16
"""A search embeds so much of what agents filed a moment ago before it looks; a longer queue is left to the indexer."""
EMBEDDING_SECONDS = 5.0
LOADING_SECONDS = 1.0
"""The first search after the start waits so long for the model before it goes by words alone."""
LONG_QUERY = 2000
"""Characters; of a longer query the model is given the two ends, all of which it reads."""
READ_OF_EACH_END = 500
MIN_TOKENS = 16
MAX_TOKENS = 100_000
DUPLICATE_POOL = 20


@dataclass(frozen=True, slots=True)
class Probe:
    """What one search looks for. `vector` is None when only words take part; `degraded` says why."""

    query: str
    mode: SearchMode
    filter: DrawerFilter
    vector: Vector | None
    degraded: str | None


@dataclass(frozen=True, slots=True)
class Pool:
    """What both sides proposed; `is_cut` when one of them might have had more to propose, `degraded` says what is
    missing."""

    candidates: Sequence[Candidate]
    rows: Mapping[int, ChunkRow]
    is_cut: bool
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What words propose, and what is missing from it."""

    weighed: Weighed
    degraded: str | None = None


NOTHING = Weighed({}, Holders())


class Searching:
    """Search, and the search for duplicates."""

    def __init__(self, stores: Stores, vectorizing: Vectorizing) -> None:
        self._stores = stores
        self._vectorizing = vectorizing

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
    ) -> SearchResult:
        """The best drawers for a query, each with its best passage; `max_tokens` bounds the passages together."""
        asked = arguments.read_query(query)
        chosen = self._within(arguments.read_filter(self._stores.calendar, wing, room, source_file, since, before))
        arguments.read_limit(limit)
        if max_tokens is not None:
            arguments.read_limit(max_tokens, "max_tokens", MAX_TOKENS, MIN_TOKENS)
        probe = self._probe(asked, SearchMode(mode), chosen)
        with self._stores.turnstile.turn(), self._stores.reader.read() as connection:
            hits, degraded = self._best(connection, probe, limit)
            pending = self._stores.drawers.pending_count(connection)
        kept = hits if max_tokens is None else _within(hits, max_tokens)
        return SearchResult(kept, probe.mode, degraded, pending, truncated=kept != hits)

    def check_duplicate(
        self, content: str, *, threshold: float = 0.9, wing: str | None = None, room: str | None = None
    ) -> DuplicateReport:
        """Live drawers that say the same or, by the cosine of the beginnings, nearly the same."""
        text.verify_content(content)
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise InvalidArgument(
                f"threshold must be a number from 0 to 1, not {threshold!r}",
                argument="threshold",
                hint="0.9 finds near copies.",
            )
        chosen = self._within(arguments.read_filter(self._stores.calendar, wing, room, None, None, None))
        spans = chunking.split(content)
        beginning = content[spans[0].start : spans[0].stop] if spans else ""
        probe = self._probe(beginning, SearchMode.HYBRID if spans else SearchMode.KEYWORD, chosen)
        with self._stores.turnstile.turn(), self._stores.reader.read() as connection:
            matches = list(self._stores.drawers.duplicates(connection, content, chosen, DUPLICATE_POOL))
            known = {match.drawer.drawer_id for match in matches}
            matches += [
                each for each in self._similar(connection, probe, threshold) if each.drawer.drawer_id not in known
            ]
        return DuplicateReport(matches, probe.degraded)

    def _within(self, chosen: DrawerFilter) -> DrawerFilter:
        return replace(chosen, within=self._stores.within)

    def _probe(self, query: str, mode: SearchMode, chosen: DrawerFilter) -> Probe:
        if mode is SearchMode.KEYWORD:
            return Probe(query, mode, chosen, None, None)
        if self._stores.embedder.loading:
            self._stores.embedder.wait(LOADING_SECONDS)
        try:
            embedder = self._stores.embedder.get()
            asked = _embedded(query)
            if not embedder.reads(asked):
                return self._unreadable(query, mode, chosen)
            vector = embedder.embed_query(asked)
        except EmbedderUnavailable as error:
            if mode is SearchMode.SEMANTIC:
                raise
            return Probe(query, mode, chosen, None, f"words only: {error.message}")
        try:
            self._vectorizing.embed_recent(PENDING_AT_ONCE, Deadline(EMBEDDING_SECONDS))
        except ModelMismatch as error:
            if mode is SearchMode.SEMANTIC:
                raise
            return Probe(query, mode, chosen, None, f"words only: {error.message}; {error.hint}")
        except PalaceError as error:
            return Probe(query, mode, chosen, vector, f"newest drawers by words only: {error.message}")
        return Probe(query, mode, chosen, vector, None)

    @staticmethod
    def _unreadable(query: str, mode: SearchMode, chosen: DrawerFilter) -> Probe:
        """For a query whose vector would say nothing, and so resemble whatever else the model cannot read."""
        if mode is SearchMode.SEMANTIC:
            raise InvalidArgument(
                "the embedding model knows too few of the query's words to search by meaning",
                argument="query",
                hint="Search with mode hybrid or keyword: words are found in every language.",
            )
        return Probe(query, mode, chosen, None, "words only: the embedding model knows too few words of this text")

    def _best(self, connection: Connection, probe: Probe, limit: int) -> tuple[list[Hit], str | None]:
        """The hits, and what is missing from them."""
        pool = self._pool(connection, probe, POOL)
        ranked, enough = _ranked(pool, probe)
        if enough < limit and pool.is_cut:
            pool = self._pool(connection, probe, WIDER_POOL)
            ranked, _ = _ranked(pool, probe)
        return self._hits(connection, ranked[:limit], pool), pool.degraded

    def _pool(self, connection: Connection, probe: Probe, size: int) -> Pool:
        """Both sides' best `size` chunks, each side's missing scores filled in, joined with what lives."""
        index = self._stores.index
        words = Words(NOTHING)
        cosines: dict[int, float] = {}
        if probe.vector is not None:
            found = index.nearest(connection, probe.vector, size, probe.filter)
            cosines = {each.chunk: each.cosine for each in found}
        if probe.mode is not SearchMode.SEMANTIC:
            words = self._words(connection, probe, size, cosines)
        bm25 = words.weighed.bm25
        is_cut = max(len(bm25), len(cosines)) >= size
        if probe.vector is not None:
            cosines |= index.cosines(connection, probe.vector, [chunk for chunk in bm25 if chunk not in cosines])
        rows = self._stores.drawers.chunk_rows(connection, list(bm25.keys() | cosines.keys()), probe.filter)
        candidates = _candidates(rows, words.weighed, cosines)
        degraded = "; ".join(filter(None, (probe.degraded, words.degraded))) or None
        return Pool(candidates, {row.chunk: row for row in rows}, is_cut, degraded)

    def _words(self, connection: Connection, probe: Probe, size: int, others: Collection[int]) -> Words:
        """What words propose, and the bm25 of others; without them if their index is damaged and meaning can answer."""
        lexicon = self._stores.lexicon
        try:
            weighed = lexicon.weigh(connection, probe.query, size, probe.filter, others)
        except (sqlite3.DatabaseError, PalaceCorrupt) as error:
            if probe.vector is None or (isinstance(error, sqlite3.Error) and is_passing(error)):
                raise
            return Words(NOTHING, "meaning only: the index of words is damaged; run `mempalace-mcp reindex`")
        if not is_symbolic(probe.query) or any(weighed.bm25.values()):
            return Words(weighed)
        found, complete = find_verbatim(connection, probe.query.strip(), size, probe.filter)
        degraded = None if complete else "only the latest drawers were looked through for these symbols"
        return Words(Weighed(weighed.bm25 | dict.fromkeys(found, BM25_FLOOR), weighed.holders), degraded)

    def _hits(self, connection: Connection, ranked: Sequence[Ranked], pool: Pool) -> list[Hit]:
        rows = [pool.rows[each.chunk] for each in ranked]
        drawers = self._stores.drawers.get(connection, [row.drawer_id for row in rows])
        return [_hit(*each) for each in zip(ranked, rows, drawers, strict=True)]

    def _similar(self, connection: Connection, probe: Probe, threshold: float) -> list[Duplicate]:
        if probe.vector is None:
            return []
        found = self._stores.index.nearest(connection, probe.vector, DUPLICATE_POOL, probe.filter)
        cosines = {each.chunk: each.cosine for each in found if each.cosine >= threshold}
        rows = self._stores.drawers.chunk_rows(connection, list(cosines), probe.filter)
        pool = Pool(_candidates(rows, NOTHING, cosines), {row.chunk: row for row in rows}, is_cut=False)
        best = rank(pool.candidates, SearchMode.SEMANTIC)
        return [Duplicate(hit.drawer, "similar", hit.score) for hit in self._hits(connection, best, pool)]


def _ranked(pool: Pool, probe: Probe) -> tuple[list[Ranked], int]:
    """The drawers of a pool, best first, and how many before it would take a wider one to do better."""
    ranked = rank(pool.candidates, probe.mode)
    if probe.filter.source_file is not None:
        return ranked, len(ranked)
    return spread(ranked, {chunk: row.source_file for chunk, row in pool.rows.items()})


def _embedded(query: str) -> str:
    """What the model is given of a query: it reads no more than a page, and questions stand at either end of a long
    quotation."""
    return query if len(query) <= LONG_QUERY else f"{query[:READ_OF_EACH_END]}\n{query[-READ_OF_EACH_END:]}"


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


def _hit(ranked: Ranked, row: ChunkRow, drawer: Drawer) -> Hit:
    return Hit(drawer, drawer.content[row.start : row.stop], row.start, ranked.score, ranked.semantic, ranked.lexical)


def _within(hits: list[Hit], tokens: int) -> list[Hit]:
    """The best hits whose passages fit together; the first is cut rather than left out."""
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
