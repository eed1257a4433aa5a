"""Words in FTS5: the table of passages, its totals, and what matches.

The formula by which words rank, exactly as FTS5 computes it, so that scores from either side compare.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with k1 = 1.2 and b = 0.75;
as in FTS5 a term found in more than half of all rows weighs next to nothing instead of less.

The tokens of passages in their order, as numbers: scoring a few hundred passages again takes a millisecond so.

FTS5 finds rows by words, but does not tell the words of a row; to tokenize its text again takes thirty times as long.

Which live chunks match an expression of FTS5, and how many rows of the whole table do.

Finding drawers by characters that are no words: a look at the contents themselves.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import condition_of, count_drawers
from mempalace_mcp.storage.query_terms import Term
from mempalace_mcp.storage.token_cache import Tokenizer
from mempalace_mcp.storage.transactions import Transaction


def json_array(values: Iterable[int]) -> str:
    """The parameter of `json_each(?)`."""
    return json.dumps(list(values))


Counts = npt.NDArray[np.int64]

K1 = 1.2
B = 0.75
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Collection:
    """How many rows the full-text table has, and how many tokens they hold together. Rows up to the number `stale`
    hold words as earlier versions read them."""

    rows: int
    tokens: int
    stale: int = 0

    def weight(self, frequency: int) -> float:
        """The inverse document frequency of a term that `frequency` rows hold."""
        weight = math.log((self.rows - frequency + 0.5) / (frequency + 0.5)) if frequency <= self.rows else 0.0
        return weight if weight > 0 else LEAST_WEIGHT

    def saturation(self, occurrences: Counts, lengths: Counts) -> npt.NDArray[np.float64]:
        """How much of its weight a term earns by occurring that often in rows of so many tokens."""
        relative = lengths * self.rows / max(self.tokens, 1)
        saturation: npt.NDArray[np.float64] = occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))
        return saturation


def read_collection(connection: Connection) -> Collection:
    """The totals as of the last commit.

    Raises:
        PalaceCorrupt: they are missing.
    """
    row = connection.execute("SELECT passages, tokens, stale FROM lexicon").fetchone()
    if row is None:
        raise PalaceCorrupt("the totals of the index of words are missing", hint="Run `mempalace-mcp reindex`.")
    return Collection(*row)


def count_change(tx: Transaction, rows: int, tokens: int) -> None:
    """Take rows that were added, or removed if the numbers are negative, into the totals."""
    tx.connection.execute("UPDATE lexicon SET passages = passages + ?, tokens = tokens + ?", (rows, tokens))


def note_reworded(tx: Transaction, stale: int) -> None:
    """Only rows up to the number `stale` hold words as earlier versions read them."""
    tx.connection.execute("UPDATE lexicon SET stale = ?", (stale,))


def count_anew(tx: Transaction) -> None:
    """Make the totals out of the index. If nobody knows which rows are stale, all of them are."""
    tx.connection.execute(
        "INSERT INTO lexicon (id, passages, tokens, stale)"
        " SELECT 1, (SELECT count(*) FROM passages), (SELECT coalesce(sum(cnt), 0) FROM passage_words),"
        " (SELECT coalesce(max(id), 0) FROM chunks) WHERE true"
        " ON CONFLICT (id) DO UPDATE SET passages = excluded.passages, tokens = excluded.tokens"
    )


_NUMBER = np.dtype("<u4")


class Passages:
    """Some passages, read together. Those that are not indexed are left out."""

    def __init__(self, connection: Connection, chunks: Iterable[int], tokenizer: Tokenizer) -> None:
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


def read_texts_after(connection: Connection, chunk: int, limit: int) -> list[tuple[int, str | None]]:
    """The next passages by number, with the texts of those that have no tokens."""
    return connection.execute(
        "SELECT p.rowid, iif(t.chunk IS NULL, p.text, NULL) FROM passages p LEFT JOIN passage_tokens t"
        " ON t.chunk = p.rowid WHERE p.rowid > ? ORDER BY p.rowid LIMIT ?",
        (chunk, limit),
    ).fetchall()


def read_texts(connection: Connection, chunks: Sequence[int]) -> dict[int, str]:
    """The texts of passages as they are indexed."""
    rows = connection.execute(
        "SELECT rowid, text FROM passages WHERE rowid IN (SELECT value FROM json_each(?))",
        (json_array(chunks),),
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
        "DELETE FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))",
        (json_array(chunks),),
    )


def _read_stored(connection: Connection, chunks: Iterable[int]) -> dict[int, bytes]:
    rows = connection.execute(
        "SELECT chunk, tokens FROM passage_tokens WHERE chunk IN (SELECT value FROM json_each(?))",
        (json_array(list(chunks)),),
    )
    return dict(rows)


def _read_again(connection: Connection, chunks: Sequence[int], tokenizer: Tokenizer) -> dict[int, bytes]:
    texts = read_texts(connection, chunks)
    return dict(zip(texts, map(_encode, tokenizer.stems(list(texts.values()))), strict=True))


def _encode(stems: Sequence[str]) -> bytes:
    return _numbers_of(stems).tobytes()


def _numbers_of(stems: Sequence[str]) -> npt.NDArray[np.uint32]:
    return np.fromiter((crc32(stem.encode()) for stem in stems), _NUMBER, len(stems))


NARROW = 1 / 8
"""Up to this share of all drawers a filter is applied to rows before they are scored, beyond it afterwards."""

_WORD_FIRST = (
    "FROM passages CROSS JOIN chunks c ON c.id = passages.rowid CROSS JOIN drawers d ON d.id = c.drawer"
    " WHERE passages MATCH :expression AND {condition}"
)
_FILTER_FIRST = (
    "FROM passages WHERE passages MATCH :expression AND +passages.rowid IN"
    " (SELECT c.id FROM drawers d CROSS JOIN chunks c ON c.drawer = d.id WHERE {condition})"
)

Scored = tuple[int, float]


class Matching:
    """The full-text table as one filter leaves it, within one snapshot."""

    def __init__(self, connection: Connection, filter: DrawerFilter, *, weigh: bool) -> None:
        """Without `weigh` the filter is taken as wide; finding out costs a count."""
        self._connection = connection
        self._condition = condition_of(filter, connection.dialect)
        self.share = _share(connection, filter) if weigh and not filter.is_empty else 1.0
        self.narrow = self.share <= NARROW
        self._source = (_FILTER_FIRST if self.narrow else _WORD_FIRST).format(condition=self._condition.sql)
        self._rank = "+rank" if self.narrow else "rank"

    def best(self, expression: str, limit: int) -> list[Scored]:
        """Chunks and their bm25, which is positive here, best first."""
        rows = self._connection.execute(
            f"SELECT passages.rowid, -rank {self._source} ORDER BY {self._rank} LIMIT :limit",
            self._values(expression, limit),
        )
        return rows.fetchall()

    def scores(self, expression: str) -> dict[int, float]:
        """The bm25 of every chunk that matches, dead or alive, within the filter or not."""
        rows = self._connection.execute(
            "SELECT rowid, -bm25(passages) FROM passages WHERE passages MATCH ?", (expression,)
        )
        return dict(rows.fetchall())

    def living(self, chunks: Sequence[int]) -> list[int]:
        """Those of the chunks that belong to live drawers within the filter, in the order given."""
        rows = self._connection.execute(
            "SELECT c.id FROM json_each(:chunks) AS wanted CROSS JOIN chunks c ON c.id = wanted.value"
            f" CROSS JOIN drawers d ON d.id = c.drawer WHERE {self._condition.sql} ORDER BY wanted.key",
            self._condition.values | {"chunks": json_array(chunks)},
        )
        return [row[0] for row in rows]

    def newest(self, expression: str, limit: int) -> list[int]:
        """Chunks, latest first."""
        rows = self._connection.execute(
            f"SELECT passages.rowid {self._source} ORDER BY passages.rowid DESC LIMIT :limit",
            self._values(expression, limit),
        )
        return [row[0] for row in rows]

    def everything(self, limit: int) -> list[int]:
        """Chunks within the filter, whatever words they hold."""
        rows = self._connection.execute(
            "SELECT c.id FROM drawers d CROSS JOIN chunks c ON c.drawer = d.id"
            f" WHERE {self._condition.sql} LIMIT :limit",
            self._condition.values | {"limit": limit},
        )
        return [row[0] for row in rows]

    def _values(self, expression: str, limit: int) -> dict[str, object]:
        return self._condition.values | {"expression": expression, "limit": limit}


def any_of(terms: Iterable[Term]) -> str:
    """The expression for rows that hold at least one of the terms."""
    return " OR ".join(term.expression for term in terms)


def all_of(terms: Iterable[Term]) -> str:
    """The expression for rows that hold every one of the terms."""
    return " AND ".join(term.expression for term in terms)


def count_rows(connection: Connection, expression: str, most: int = -1) -> int:
    """How many rows match, in the trash or not, counted up to `most`. The time grows with the answer."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM passages WHERE passages MATCH ? LIMIT ?)", (expression, most)
    ).fetchone()
    return int(row[0])


def _share(connection: Connection, filter: DrawerFilter) -> float:
    return count_drawers(connection, filter) / max(1, count_drawers(connection, DrawerFilter()))


SECONDS = 0.3
"""How long contents are read: some 100,000 short drawers."""


def find_verbatim(
    connection: Connection, text: str, limit: int, filter: DrawerFilter, seconds: float = SECONDS
) -> tuple[list[int], bool]:
    """The chunks of up to `limit` live drawers that hold a text as it is, the latest first, and whether all that came
    into question were read."""
    condition = condition_of(filter, connection.dialect)
    rows = connection.execute(
        f"SELECT d.id, instr(d.content, :text) FROM drawers d WHERE {condition.sql} ORDER BY d.id DESC",
        condition.values | {"text": text},
    )
    end = time.monotonic() + seconds
    found: list[int] = []
    for drawer, place in rows:
        if place:
            chunk = connection.execute(
                "SELECT id FROM chunks WHERE drawer = ? ORDER BY start >= ?, start DESC LIMIT 1", (drawer, place)
            ).fetchone()
            found += chunk or ()
        if len(found) == limit:
            break
        if time.monotonic() > end:
            return found, False
    return found, True
