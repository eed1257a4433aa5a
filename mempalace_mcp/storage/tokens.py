"""FTS5's own tokenizer, asked through a table in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mempalace_mcp.storage.terms import Term

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
"""As the table `passages` has it: marks belong to the words of Indic scripts."""


class Tokenizer:
    """Keeps one table in memory, which is empty between two questions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def stems(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """The tokens of each text as the index holds them; one of nothing but a diacritic is empty there."""
        tokens: list[list[str]] = [[] for _ in texts]
        with self._indexed(texts) as connection:
            for text, token in connection.execute("SELECT doc, coalesce(term, '') FROM tokens ORDER BY doc, offset"):
                tokens[text].append(token)
        return [tuple(each) for each in tokens]

    def occurrences(self, texts: Sequence[str], terms: Sequence[tuple[Term, tuple[str, ...]]]) -> list[Counter[int]]:
        """How often each term, given with its stems, occurs in which of the texts: one count per term."""
        with self._indexed(texts) as connection:
            return [_count(connection, term, tokens) for term, tokens in terms]

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


def _count(connection: sqlite3.Connection, term: Term, tokens: tuple[str, ...]) -> Counter[int]:
    """Occurrences of a term by text; a phrase occurs where its tokens follow one another."""
    *before, last = tokens
    starts = {(text, offset - len(before)) for text, offset in _places(connection, last, term.prefix)}
    for index, token in enumerate(before):
        starts &= {(text, offset - index) for text, offset in _places(connection, token, prefix=False)}
    return Counter(text for text, _ in starts)


def _places(connection: sqlite3.Connection, token: str, prefix: bool) -> list[tuple[int, int]]:
    """Text and offset of each occurrence of a token, or of each token that begins with it."""
    if prefix:
        bounds = (token, token + chr(0x10FFFF))
        return connection.execute("SELECT doc, offset FROM tokens WHERE term >= ? AND term < ?", bounds).fetchall()
    return connection.execute("SELECT doc, offset FROM tokens WHERE term = ?", (token,)).fetchall()
