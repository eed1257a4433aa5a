"""FTS5's tokenizer, reached through a table in memory."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mempalace_mcp.storage.word_table import Tokenizer

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
"""As the table `passages` has it: marks belong to the words of Indic scripts."""


class FullTextTokenizer(Tokenizer):
    """Keeps one table in memory, which is empty between two questions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def stems(self, texts: Sequence[str], /) -> list[tuple[str, ...]]:
        """The tokens of each text as the index holds them; one of nothing but a diacritic is empty there."""
        tokens: list[list[str]] = [[] for _ in texts]
        with self._indexed(texts) as connection:
            for text, token in connection.execute("SELECT doc, coalesce(term, '') FROM tokens ORDER BY doc, offset"):
                tokens[text].append(token)
        return [tuple(each) for each in tokens]

    def starting_with(self, beginning: str, texts: Sequence[str], /) -> list[str]:
        """The different tokens of the texts that begin so."""
        with self._indexed(texts) as connection:
            bounds = (beginning, beginning + chr(0x10FFFF))
            rows = connection.execute("SELECT DISTINCT term FROM tokens WHERE term >= ? AND term < ?", bounds)
            return [token for (token,) in rows]

    def close(self) -> None:
        """Give the table back; asked again, there is a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _indexed(self, texts: Sequence[str]) -> Iterator[sqlite3.Connection]:
        """A connection whose table `tokens` lists the tokens of the texts, numbered from 0."""
        with self._lock:
            if self._connection is None:
                self._connection = _open()
                # A table of words has one for as long as it is used, and nobody tells it when that ends.
                weakref.finalize(self, self._connection.close)
            connection = self._connection
            connection.execute("BEGIN")
            try:
                connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(texts))
                yield connection
            finally:
                connection.execute("ROLLBACK")


def _open() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute(
        f"CREATE VIRTUAL TABLE texts USING fts5 (text, content = '', columnsize = 0, tokenize = \"{TOKENIZER}\")"
    )
    connection.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab (texts, 'instance')")
    return connection
