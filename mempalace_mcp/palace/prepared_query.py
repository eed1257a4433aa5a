"""What a search needs to know of its query: its meaning, the times that it names, the words that tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.clock import Calendar
from mempalace_mcp.core.errors import EmbedderUnavailable, InvalidArgument, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter, ModelStamp, SearchMode
from mempalace_mcp.embedding.token_vectors import TokenVectors
from mempalace_mcp.palace.confidence import Scale, scale_of
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.timeliness import NOTHING_ASKED, Asked
from mempalace_mcp.storage.query_terms import without_words
from mempalace_mcp.storage.word_table import WordsUnreadable

Vector = NDArray[np.float32]

LOADING_SECONDS = 1.0
"""How long the first search waits for the model to load; then it goes by words alone."""
LONG_QUERY = 2000
"""Characters. Only the two ends of a longer query are embedded."""
QUERY_END = 500
MOST_TELLING = 500
"""Characters. A longer query has enough words that tell."""


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


class QueryPreparation:
    """Prepares queries."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def prepare(self, query: str, mode: SearchMode, filter: DrawerFilter, calendar: Calendar) -> PreparedQuery:
        """A query to be run. Times that it names are those of the calendar.

        Raises:
            InvalidArgument: the model knows too few words of a query by meaning alone.
            EmbedderUnavailable: it is by meaning alone, and the model is not loaded.
        """
        meant = query if mode is SearchMode.KEYWORD else self._telling(query, filter)
        # A search by meaning or by words alone looks at nothing else.
        asked = Asked.read(query, calendar.now(), calendar.zone) if mode is SearchMode.HYBRID else NOTHING_ASKED
        return replace(self.embed(query, mode, filter, meant), asked=asked)

    def embed(self, query: str, mode: SearchMode, filter: DrawerFilter, meant: str) -> PreparedQuery:
        """A query whose vector is of the text that it means, as far as the mode and the model allow it.

        Raises:
            EmbedderUnavailable, InvalidArgument: as `prepare`.
        """
        if mode is SearchMode.KEYWORD:
            return PreparedQuery(query, mode, filter, None, None)
        if self._stores.embedder.loading:
            self._stores.embedder.wait(LOADING_SECONDS)
        try:
            embedder = self._stores.embedder.get()
            if not embedder.reads(_ends(query)):
                return self._by_words(query, mode, filter)
            vector, tokens = embedder.embed_query(_ends(meant)), embedder.query_tokens(_ends(meant))
        except EmbedderUnavailable as error:
            if mode is SearchMode.SEMANTIC:
                raise
            return PreparedQuery(query, mode, filter, None, f"words only: {error.message}")
        return PreparedQuery(query, mode, filter, vector, None, embedder.stamp, tokens)

    def _telling(self, query: str, filter: DrawerFilter) -> str:
        """The query without words that most of the searched passages hold: they tell none of them from the others."""
        if len(query) > MOST_TELLING:
            return query
        share = self._stores.weights.frequent
        try:
            with self._stores.reader.read() as connection:
                frequent = self._stores.lexicon.frequent_words(connection, query, filter, share)
        except (WordsUnreadable, PalaceCorrupt):  # the search itself says so
            return query
        return without_words(query, frequent)

    @staticmethod
    def _by_words(query: str, mode: SearchMode, filter: DrawerFilter) -> PreparedQuery:
        """For a query of unknown words: its vector would resemble every other text that the model cannot read."""
        if mode is SearchMode.SEMANTIC:
            raise InvalidArgument(
                "the embedding model knows too few of the query's words to search by meaning",
                argument="query",
                hint="Search with mode hybrid or keyword: words are found in every language.",
            )
        degraded = "words only: the embedding model knows too few words of this text"
        return PreparedQuery(query, mode, filter, None, degraded)


def _ends(query: str) -> str:
    """The query, or the two ends of a long one: the model reads a page, and a question may follow a long quotation."""
    return query if len(query) <= LONG_QUERY else f"{query[:QUERY_END]}\n{query[-QUERY_END:]}"
