"""Keeps the full-text index and the token cache of large palaces up to date, in the background."""

from __future__ import annotations

import time

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.lexical import reword_stale

WINDOW = 128
"""Passages of one step: a few milliseconds of work, and one commit for passages that were filed one at a time."""

ROUND_SECONDS = 3600.0
"""How often all passages are checked again: one that was indexed anew keeps its number and needs new tokens."""


class TokenCacheFiller:
    """Stores the tokens of passages that have none, in the order of passages. For one thread.

    Passages that an earlier version indexed are indexed anew first; until then the earlier words find them. A passage
    without tokens has the same score and costs a search thirty microseconds. The newest passages stay without until
    they fill a window.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._table = stores.lexicon.table
        self._tokenizer = self._table.new_tokenizer()  # of its own, so that searches do not wait for it
        self._last = 0
        self._next_round = 0.0

    def advance(self) -> int:
        """Check the next passages and commit what is missing; returns how many were checked, 0 at the end.

        Raises:
            PalaceError: the write failed; the next call tries it again.
        """
        with self._stores.reader.read() as connection:
            stale = self._table.collection(connection).stale
        if stale:
            lexicon = self._stores.lexicon
            return self._stores.writer.write(lambda tx: reword_stale(tx, lexicon, WINDOW), Deadline())
        if time.monotonic() >= self._next_round:
            self._last, self._next_round = 0, time.monotonic() + ROUND_SECONDS
        with self._stores.reader.read() as connection:
            if not self._stores.lexicon.scores_by_tokens(connection):
                return 0
            window = self._table.texts_after(connection, self._last, WINDOW)
        if len(window) < WINDOW:
            return 0
        self._keep({chunk: text for chunk, text in window if text is not None})
        self._last, _ = window[-1]
        return len(window)

    def close(self) -> None:
        """Free the memory of the tokenizer."""
        self._tokenizer.close()

    def _keep(self, texts: dict[int, str]) -> None:
        if texts:
            tokens = self._tokenizer.stems(list(texts.values()))
            self._stores.writer.write(lambda tx: self._table.keep_tokens(tx, texts, tokens), Deadline())
