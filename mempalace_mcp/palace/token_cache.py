"""Bringing passages to the words of this version, and giving those of large palaces their tokens, in the background."""

from __future__ import annotations

import time

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.storage.lexical import reword_stale
from mempalace_mcp.storage.sqlite.fulltext import keep_tokens, read_collection, read_texts_after
from mempalace_mcp.storage.token_cache import Tokenizer

WINDOW = 128
"""Passages looked at and written at once: a few milliseconds of work, and one commit for many that came singly."""

ROUND_SECONDS = 3600.0
"""How often all passages are looked at again, for those that were indexed anew under their number."""


class Tokenizing:
    """Goes through the passages in their order and keeps the tokens of those that have none. For one thread.

    Passages that an earlier version has indexed come first; until they are done, they are found by the earlier words.
    It has a tokenizer of its own, so that searches do not wait for it. A passage that it has not come to yet scores the
    same and costs a search thirty microseconds; the newest remain so until they fill a window.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._tokenizer = Tokenizer()
        self._after = 0
        self._next_round = 0.0

    def advance(self) -> int:
        """Look at the next passages and commit what is missing; at how many it looked, 0 at the end.

        Raises:
            PalaceError: it could not be written; it is tried again.
        """
        with self._stores.reader.read() as connection:
            stale = read_collection(connection).stale
        if stale:
            lexicon = self._stores.lexicon
            return self._stores.writer.write(lambda tx: reword_stale(tx, lexicon, WINDOW), Deadline())
        if time.monotonic() >= self._next_round:
            self._after, self._next_round = 0, time.monotonic() + ROUND_SECONDS
        with self._stores.reader.read() as connection:
            if not self._stores.lexicon.scores_by_tokens(connection):
                return 0
            window = read_texts_after(connection, self._after, WINDOW)
        if len(window) < WINDOW:
            return 0
        self._keep({chunk: text for chunk, text in window if text is not None})
        self._after, _ = window[-1]
        return len(window)

    def close(self) -> None:
        """Give back what the tokenizer holds."""
        self._tokenizer.close()

    def _keep(self, texts: dict[int, str]) -> None:
        if texts:
            tokens = self._tokenizer.stems(list(texts.values()))
            self._stores.writer.write(lambda tx: keep_tokens(tx, texts, tokens), Deadline())
