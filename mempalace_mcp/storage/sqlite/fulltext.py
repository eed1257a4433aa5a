"""The table of words in FTS5: `passages`, with its totals and the tokens that FTS5 keeps to itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection, Parameters
from mempalace_mcp.storage.query_terms import Term, count_tokens
from mempalace_mcp.storage.sqlite.connection import is_passing
from mempalace_mcp.storage.tokenizer import FullTextTokenizer
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.word_table import (
    Collection,
    Matching,
    Numbers,
    Scored,
    Tokenizer,
    WordsUnreadable,
    WordTable,
    encode_tokens,
    token_numbers,
)

_WORD_FIRST = (
    "FROM passages CROSS JOIN chunks c ON c.id = passages.rowid CROSS JOIN drawers d ON d.id = c.drawer"
    " WHERE passages MATCH :expression AND {condition}"
)
_FILTER_FIRST = (
    "FROM passages WHERE passages MATCH :expression AND +passages.rowid IN"
    " (SELECT c.id FROM drawers d CROSS JOIN chunks c ON c.drawer = d.id WHERE {condition})"
)


class FullTextTable(WordTable):
    """The tables `passages`, `passage_tokens` and `lexicon`. It holds no connection."""

    keeps_tokens = False

    def new_tokenizer(self) -> FullTextTokenizer:
        """FTS5's own."""
        return FullTextTokenizer()

    def collection(self, connection: Connection, /) -> Collection:
        """The totals as of the last commit.

        Raises:
            PalaceCorrupt: they are missing.
        """
        return Collection.of(_read(connection, Collection.QUERY))

    def matching(self, connection: Connection, filter: DrawerFilter, /, *, weigh: bool) -> Matching:
        """The table as the filter leaves it."""
        return _FullTextMatching(connection, filter, weigh=weigh)

    def count(self, connection: Connection, terms: Iterable[Term], most: int | None = None, /) -> int:
        """How many rows hold one of the terms, counted up to `most`."""
        return _count(connection, terms, -1 if most is None else most)

    def counts(self, connection: Connection, terms: Sequence[Term], most: int | None = None, /) -> dict[Term, int]:
        """How many rows hold each of the terms, counted up to `most`."""
        return {term: self.count(connection, [term], most) for term in terms}

    def add(self, tx: Transaction, chunk: int, text: str, /) -> None:
        """Make a chunk findable by the words of a text."""
        tx.connection.execute("INSERT INTO passages (rowid, text) VALUES (?, ?)", (chunk, text))
        _count_change(tx, 1, count_tokens(text))

    def remove(self, tx: Transaction, chunks: Sequence[int], /) -> None:
        """Make chunks unfindable; their words stay in the files until the table is compacted."""
        texts = _texts(tx.connection, chunks).values()
        numbers = (_json_array(chunks),)
        tx.connection.execute("DELETE FROM passages WHERE rowid IN (SELECT value FROM json_each(?))", numbers)
        _count_change(tx, -len(texts), -sum(map(count_tokens, texts)))
        tx.connection.execute("DELETE FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))", numbers)

    def compact(self, tx: Transaction, /) -> None:
        """Rewrite the index without what was removed: a quarter of a second per 100,000 short chunks."""
        tx.connection.execute("INSERT INTO passages (passages) VALUES ('optimize')")

    def rebuild(self, tx: Transaction, /) -> None:
        """Make the index and its totals anew out of the texts: four seconds per 100,000 short chunks."""
        tx.connection.execute("INSERT INTO passages (passages) VALUES ('rebuild')")
        self.count_anew(tx)

    def count_anew(self, tx: Transaction) -> None:
        """Make the totals out of the index. If it is unknown which rows are stale, all of them are."""
        tx.connection.execute(
            "INSERT INTO lexicon (id, passages, tokens, stale)"
            " SELECT 1, (SELECT count(*) FROM passages), (SELECT coalesce(sum(cnt), 0) FROM passage_words),"
            " (SELECT coalesce(max(id), 0) FROM chunks) WHERE true"
            " ON CONFLICT (id) DO UPDATE SET passages = excluded.passages, tokens = excluded.tokens"
        )

    def set_stale(self, tx: Transaction, stale: int, /) -> None:
        """Only passages up to the number `stale` hold words as earlier versions read them."""
        tx.connection.execute("UPDATE lexicon SET stale = ?", (stale,))

    def differing(self, connection: Connection, texts: Mapping[int, str], /) -> list[int]:
        """Those of the passages that were indexed by other texts."""
        stored = _texts(connection, list(texts))
        return [chunk for chunk, text in texts.items() if text != stored.get(chunk)]

    def tokens(self, connection: Connection, chunks: Sequence[int], tokenizer: Tokenizer, /) -> dict[int, bytes]:
        """The tokens of passages. To tokenize a text again takes thirty times as long as scoring."""
        sql = "SELECT chunk, tokens FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))"
        stored = dict(_read(connection, sql, (_json_array(chunks),)))
        if missing := [chunk for chunk in chunks if chunk not in stored]:
            texts = _texts(connection, missing)
            stored |= zip(texts, map(encode_tokens, tokenizer.stems(list(texts.values()))), strict=True)
        return stored

    def starting_with(
        self, connection: Connection, beginning: str, chunks: Sequence[int], tokenizer: Tokenizer, /
    ) -> Numbers:
        """The tokens of the passages that begin so. The texts are asked: seldom, in unspaced scripts only."""
        return token_numbers(tokenizer.starting_with(beginning, list(_texts(connection, chunks).values())))

    def texts_after(self, connection: Connection, chunk: int, limit: int, /) -> list[tuple[int, str | None]]:
        """The next passages by number, with the texts of those that have no tokens."""
        sql = (
            "SELECT p.rowid, iif(t.chunk IS NULL, p.text, NULL) FROM passages p LEFT JOIN passage_tokens t"
            " ON t.chunk = p.rowid WHERE p.rowid > ? ORDER BY p.rowid LIMIT ?"
        )
        return _read(connection, sql, (chunk, limit))

    def keep_tokens(self, tx: Transaction, texts: Mapping[int, str], stems: Iterable[Sequence[str]], /) -> None:
        """Keep the tokens of passages, unless they were removed or changed since their texts were read."""
        rows = [
            (encode_tokens(tokens), chunk, text) for (chunk, text), tokens in zip(texts.items(), stems, strict=True)
        ]
        tx.connection.executemany(
            "INSERT INTO passage_tokens (chunk, tokens) SELECT rowid, ? FROM passages WHERE rowid = ? AND text = ?"
            " ON CONFLICT (chunk) DO NOTHING",
            rows,
        )


class _FullTextMatching(Matching):
    """FTS5's own ranking, with the filter applied before or after it."""

    def __init__(self, connection: Connection, filter: DrawerFilter, *, weigh: bool) -> None:
        super().__init__(connection, filter, weigh=weigh)
        self._source = (_FILTER_FIRST if self.narrow else _WORD_FIRST).format(condition=self._condition.sql)
        self._rank = "+rank" if self.narrow else "rank"

    def best(self, frequencies: Mapping[Term, int], limit: int) -> list[Scored]:
        """Chunks and their bm25, best first."""
        sql = f"SELECT passages.rowid, -rank {self._source} ORDER BY {self._rank} LIMIT :limit"
        return _read(self._connection, sql, self._values(_any_of(frequencies), limit))

    def newest(self, groups: Sequence[Mapping[Term, int]], limit: int) -> list[list[int]]:
        """Chunks that hold all of a group, latest first."""
        return [self._newest(_all_of(group), limit) for group in groups]

    def rare(self, groups: Sequence[Sequence[Term]], most: int) -> list[frozenset[int]]:
        """Chunks that hold a term of a group, if few do."""
        return [
            frozenset(self._newest(_any_of(group), most) if group and self._are_few(group, most) else ())
            for group in groups
        ]

    def _are_few(self, group: Sequence[Term], most: int) -> bool:
        return 0 < _count(self._connection, group, most + 1) <= most

    def _newest(self, expression: str, limit: int) -> list[int]:
        sql = f"SELECT passages.rowid {self._source} ORDER BY passages.rowid DESC LIMIT :limit"
        return [row[0] for row in _read(self._connection, sql, self._values(expression, limit))]

    def scores(self, terms: Iterable[Term]) -> dict[int, float]:
        """The bm25 of every chunk that matches."""
        sql = "SELECT rowid, -bm25(passages) FROM passages WHERE passages MATCH ?"
        return dict(_read(self._connection, sql, (_any_of(terms),)))

    def _values(self, expression: str, limit: int) -> dict[str, object]:
        return self._condition.values | {"expression": expression, "limit": limit}


def expression_of(term: Term) -> str:
    """The term in the language of FTS5; it holds nothing but letters, digits and blanks between its quotes."""
    return f'"{term.text}"*' if term.prefix else f'"{term.text}"'


def _any_of(terms: Iterable[Term]) -> str:
    return " OR ".join(map(expression_of, terms))


def _all_of(terms: Iterable[Term]) -> str:
    return " AND ".join(map(expression_of, terms))


def _count(connection: Connection, terms: Iterable[Term], most: int) -> int:
    sql = "SELECT count(*) FROM (SELECT 1 FROM passages WHERE passages MATCH ? LIMIT ?)"
    ((count,),) = _read(connection, sql, (_any_of(terms), most))
    return int(count)


def _texts(connection: Connection, chunks: Iterable[int]) -> dict[int, str]:
    """The texts of passages as they are indexed."""
    sql = "SELECT rowid, text FROM passages WHERE rowid IN (SELECT value FROM json_each(?))"
    return dict(_read(connection, sql, (_json_array(chunks),)))


def _count_change(tx: Transaction, rows: int, tokens: int) -> None:
    """Take rows that were added, or removed if the numbers are negative, into the totals."""
    tx.connection.execute("UPDATE lexicon SET passages = passages + ?, tokens = tokens + ?", (rows, tokens))


def _read(connection: Connection, sql: str, parameters: Parameters = ()) -> list[Any]:
    """The rows of a query.

    Raises:
        WordsUnreadable: SQLite cannot read the table.
        sqlite3.Error: another connection is in the way.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.DatabaseError as error:
        if is_passing(error):
            raise
        raise WordsUnreadable from error


def _json_array(values: Iterable[int]) -> str:
    """The parameter of `json_each(?)`."""
    return json.dumps(list(values))
