"""The tokens of passages in their order, as numbers: scoring a few hundred passages again takes a millisecond so.

FTS5 finds rows by words, but does not tell the words of a row; to tokenize its text again takes thirty times as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mempalace_mcp.storage.bm25 import Counts
from mempalace_mcp.storage.rows import json_array
from mempalace_mcp.storage.tokens import Tokenizer
from mempalace_mcp.storage.transaction import Transaction

_NUMBER = np.dtype("<u4")


class Passages:
    """Some passages, read together. Those that are not indexed are left out."""

    def __init__(self, connection: sqlite3.Connection, chunks: Iterable[int], tokenizer: Tokenizer) -> None:
        stored = _read_stored(connection, chunks)
        missing = [chunk for chunk in chunks if chunk not in stored]
        if missing:
            stored |= _read_again(connection, missing, tokenizer)
        self.chunks = list(stored)
        """Their numbers; counts and lengths are in this order."""
        self.lengths: Counts = np.array([len(tokens) // _NUMBER.itemsize for tokens in stored.values()], np.int64)
        self._tokens = np.frombuffer(b"".join(stored.values()), _NUMBER)
        self._owners = np.repeat(np.arange(len(self.chunks)), self.lengths)
        self._connection = connection
        self._tokenizer = tokenizer

    def count(self, stems: Sequence[str], prefix: bool) -> Counts:
        """How often the tokens follow one another in each passage; with `prefix` the last of them may go on."""
        places = [self._tokens == number for number in _numbers_of(stems)]
        if prefix:
            places[-1] = self._places_of_prefix(stems[-1])
        last = len(places) - 1
        starts = max(len(self._tokens) - last, 0)
        found = self._owners[:starts] == self._owners[last:]
        for offset, place in enumerate(places):
            found &= place[offset : offset + starts]
        return np.bincount(self._owners[:starts][found], minlength=len(self.chunks))

    def _places_of_prefix(self, beginning: str) -> npt.NDArray[np.bool_]:
        """Where the tokens begin so. Which do is asked of the texts: seldom, and in unspaced scripts only."""
        texts = read_texts(self._connection, self.chunks)
        return np.isin(self._tokens, _numbers_of(self._tokenizer.starting_with(beginning, list(texts.values()))))


def read_texts_after(connection: sqlite3.Connection, chunk: int, limit: int) -> list[tuple[int, str | None]]:
    """The next passages by number, with the texts of those that have no tokens."""
    return connection.execute(
        "SELECT p.rowid, iif(t.chunk IS NULL, p.text, NULL) FROM passages p LEFT JOIN passage_tokens t"
        " ON t.chunk = p.rowid WHERE p.rowid > ? ORDER BY p.rowid LIMIT ?",
        (chunk, limit),
    ).fetchall()


def read_texts(connection: sqlite3.Connection, chunks: Sequence[int]) -> dict[int, str]:
    """The texts of passages as they are indexed."""
    rows = connection.execute(
        "SELECT rowid, text FROM passages WHERE rowid IN (SELECT value FROM json_each(?))", (json_array(chunks),)
    )
    return dict(rows)


def keep_tokens(tx: Transaction, texts: Mapping[int, str], stems: Iterable[Sequence[str]]) -> None:
    """Keep the tokens of passages, unless they were removed or changed since their texts were read."""
    rows = [(_encode(tokens), chunk, text) for (chunk, text), tokens in zip(texts.items(), stems, strict=True)]
    tx.connection.executemany(
        "INSERT INTO passage_tokens (chunk, tokens) SELECT rowid, ? FROM passages WHERE rowid = ? AND text = ?"
        " ON CONFLICT (chunk) DO NOTHING",
        rows,
    )


def delete_tokens(tx: Transaction, chunks: Sequence[int]) -> None:
    """Forget the tokens of passages."""
    tx.connection.execute(
        "DELETE FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))", (json_array(chunks),)
    )


def _read_stored(connection: sqlite3.Connection, chunks: Iterable[int]) -> dict[int, bytes]:
    rows = connection.execute(
        "SELECT chunk, tokens FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))",
        (json_array(list(chunks)),),
    )
    return dict(rows)


def _read_again(connection: sqlite3.Connection, chunks: Sequence[int], tokenizer: Tokenizer) -> dict[int, bytes]:
    texts = read_texts(connection, chunks)
    return dict(zip(texts, map(_encode, tokenizer.stems(list(texts.values()))), strict=True))


def _encode(stems: Sequence[str]) -> bytes:
    return _numbers_of(stems).tobytes()


def _numbers_of(stems: Sequence[str]) -> npt.NDArray[np.uint32]:
    return np.fromiter((crc32(stem.encode()) for stem in stems), _NUMBER, len(stems))
