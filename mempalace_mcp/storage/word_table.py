"""The table of words, which each database keeps in its own way, and the weight of words in it.

A row of the table is a passage: the words of one chunk, under the chunk's number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.queries import condition_of, count_drawers
from mempalace_mcp.storage.query_terms import Term
from mempalace_mcp.storage.transactions import Transaction

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
"""CRC-32 of tokens."""

Scored = tuple[int, float]
"""A chunk and its bm25."""

K1 = 1.2
B = 0.75
LEAST_WEIGHT = 1e-6

NARROW = 1 / 8
"""Up to this share of all drawers a filter is applied to rows before they are scored, beyond it afterwards."""


class WordsUnreadable(Exception):
    """Raised when the table of words cannot be read; the database's own error is the cause."""


@dataclass(frozen=True, slots=True)
class Collection:
    """How many passages the table has, and how many tokens they hold together. Passages up to the number `stale` hold
    words as earlier versions read them.

    The formula is that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), in
    the form of FTS5, so that its scores and these compare: a term found in more than half of all rows weighs next to
    nothing instead of less.
    """

    rows: int
    tokens: int
    stale: int = 0

    QUERY: ClassVar[str] = "SELECT passages, tokens, stale FROM lexicon"

    @classmethod
    def of(cls, found: Sequence[tuple[int, int, int]]) -> Collection:
        """The totals that `QUERY` has found.

        Raises:
            PalaceCorrupt: they are missing.
        """
        if not found:
            raise PalaceCorrupt("the totals of the index of words are missing", hint="Run `mempalace-mcp reindex`.")
        return cls(*found[0])

    def weight(self, frequency: int) -> float:
        """The inverse document frequency of a term that `frequency` rows hold."""
        weight = math.log((self.rows - frequency + 0.5) / (frequency + 0.5)) if frequency <= self.rows else 0.0
        return weight if weight > 0 else LEAST_WEIGHT

    def saturation(self, occurrences: Counts, lengths: Counts) -> npt.NDArray[np.float64]:
        """How much of its weight a term earns by occurring that often in rows of so many tokens."""
        relative = lengths * self.rows / max(self.tokens, 1)
        saturation: npt.NDArray[np.float64] = occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))
        return saturation


UNSEEN = 20
"""Of few passages all words weigh about the same: as if so many others had been seen, one of which holds the word."""


def rarity_among(passages: int, holders: int) -> float:
    """The weight of a word that so many of some passages hold."""
    return math.log1p((passages + UNSEEN - holders - 0.5) / (holders + 1.5))


class Tokenizer(Protocol):
    """Splits texts as the table does. Thread-safe."""

    def stems(self, texts: Sequence[str], /) -> list[tuple[str, ...]]:
        """The tokens of each text as the table holds them; one of nothing but a diacritic is empty there."""
        ...

    def starting_with(self, beginning: str, texts: Sequence[str], /) -> list[str]:
        """The different tokens of the texts that begin so."""
        ...

    def close(self) -> None:
        """Release what it holds. It may be used again."""
        ...


class Matching(ABC):
    """The table of words as one filter leaves it, within one snapshot."""

    def __init__(self, connection: Connection, filter: DrawerFilter, *, weigh: bool) -> None:
        """Without `weigh` the filter is taken as wide; finding out costs a count."""
        self._connection = connection
        self._condition = condition_of(filter, connection.dialect)
        self.share = _share(connection, filter) if weigh and not filter.is_empty else 1.0
        self.narrow = self.share <= NARROW

    @abstractmethod
    def best(self, frequencies: Mapping[Term, int], limit: int) -> list[Scored]:
        """Chunks within the filter that hold at least one of the terms, and their bm25, which is positive, best first.

        `frequencies` tells how many rows hold each term.

        Raises:
            WordsUnreadable: the table is damaged.
        """

    @abstractmethod
    def newest(self, groups: Sequence[Mapping[Term, int]], limit: int) -> list[list[int]]:
        """For each group of terms, with their frequencies, the chunks within the filter that hold all of it, latest
        first.

        Raises:
            WordsUnreadable: the table is damaged.
        """

    @abstractmethod
    def rare(self, groups: Sequence[Sequence[Term]], most: int) -> list[frozenset[int]]:
        """For each group of terms the chunks within the filter that hold one of them; none if more than `most` rows do,
        in the trash or not.

        Raises:
            WordsUnreadable: the table is damaged.
        """

    @abstractmethod
    def scores(self, terms: Iterable[Term]) -> dict[int, float]:
        """The bm25 of every chunk that holds at least one of the terms, dead or alive, within the filter or not.

        Raises:
            WordsUnreadable: the table is damaged.
        """

    def living(self, chunks: Sequence[int]) -> list[int]:
        """Those of the chunks that belong to live drawers within the filter, in the order given."""
        dialect = self._connection.dialect
        rows = self._connection.execute(
            f"SELECT c.id FROM {dialect.listed(':chunks', 'wanted')}"
            f" {dialect.ordered_join} chunks c ON c.id = wanted.value"
            f" {dialect.ordered_join} drawers d ON d.id = c.drawer WHERE {self._condition.sql} ORDER BY wanted.key",
            self._condition.values | {"chunks": dialect.array(chunks)},
        )
        return [row[0] for row in rows]

    def everything(self, limit: int) -> list[int]:
        """Chunks within the filter, whatever words they hold."""
        rows = self._connection.execute(
            f"SELECT c.id FROM drawers d {self._connection.dialect.ordered_join} chunks c ON c.drawer = d.id"
            f" WHERE {self._condition.sql} LIMIT :limit",
            self._condition.values | {"limit": limit},
        )
        return [row[0] for row in rows]


def _share(connection: Connection, filter: DrawerFilter) -> float:
    return count_drawers(connection, filter) / max(1, count_drawers(connection, DrawerFilter()))


class WordTable(Protocol):
    """Keeps passages and finds them by their words.

    What reads it raises `WordsUnreadable` if it is damaged.
    """

    @property
    def keeps_tokens(self) -> bool:
        """Are the tokens of every passage kept from its first moment on?"""
        ...

    def new_tokenizer(self) -> Tokenizer:
        """A tokenizer for one user."""
        ...

    def collection(self, connection: Connection, /) -> Collection:
        """The totals as of the last commit.

        Raises:
            PalaceCorrupt: they are missing.
        """
        ...

    def matching(self, connection: Connection, filter: DrawerFilter, /, *, weigh: bool) -> Matching:
        """The table as the filter leaves it; see `Matching`."""
        ...

    def count(self, connection: Connection, terms: Iterable[Term], most: int | None = None, /) -> int:
        """How many rows hold one of the terms, in the trash or not, counted up to `most`.

        The time grows with the answer.
        """
        ...

    def counts(self, connection: Connection, terms: Sequence[Term], most: int | None = None, /) -> dict[Term, int]:
        """The same of each of the terms."""
        ...

    def add(self, tx: Transaction, chunk: int, text: str, /) -> None:
        """Make a chunk findable by the words of a text."""
        ...

    def remove(self, tx: Transaction, chunks: Sequence[int], /) -> None:
        """Make chunks unfindable; their words may stay in the files until `compact`."""
        ...

    def compact(self, tx: Transaction, /) -> None:
        """Rewrite the table without what was removed."""
        ...

    def rebuild(self, tx: Transaction, /) -> None:
        """Make the index of the table and its totals anew out of the texts."""
        ...

    def set_stale(self, tx: Transaction, stale: int, /) -> None:
        """Only passages up to the number `stale` hold words as earlier versions read them."""
        ...

    def differing(self, connection: Connection, texts: Mapping[int, str], /) -> list[int]:
        """Those of the passages that do not hold the words of these texts."""
        ...

    def tokens(self, connection: Connection, chunks: Sequence[int], tokenizer: Tokenizer, /) -> dict[int, bytes]:
        """The tokens of those passages that are indexed, as `encode_tokens` writes them."""
        ...

    def starting_with(
        self, connection: Connection, beginning: str, chunks: Sequence[int], tokenizer: Tokenizer, /
    ) -> Numbers:
        """The numbers of the tokens that begin so, at least of those in the passages."""
        ...

    def texts_after(self, connection: Connection, chunk: int, limit: int, /) -> list[tuple[int, str | None]]:
        """The next passages by number, with the texts of those whose tokens are not kept; none where all are."""
        ...

    def keep_tokens(self, tx: Transaction, texts: Mapping[int, str], stems: Iterable[Sequence[str]], /) -> None:
        """Keep the tokens of passages, unless they were removed or changed since their texts were read."""
        ...


_NUMBER = np.dtype("<u4")


class TokenRows:
    """The tokens of some passages in their order, as numbers."""

    def __init__(self, chunks: Sequence[int], lengths: Counts, tokens: bytes) -> None:
        """`tokens` are those of all passages, one behind the other, as `encode_tokens` writes them."""
        self.chunks = chunks
        """Numbers of the passages; counts and lengths are in this order."""
        self.lengths = lengths
        self._tokens = np.frombuffer(tokens, _NUMBER)
        self._owners = np.repeat(np.arange(len(chunks)), lengths)

    def document_counts(self) -> tuple[npt.NDArray[np.uint32], Counts]:
        """The numbers of their tokens, ascending, and how many of the passages hold each."""
        held = np.unique(self._owners.astype(np.uint64) << np.uint64(32) | self._tokens)
        numbers, counts = np.unique(held.astype(np.uint32), return_counts=True)
        return numbers, counts

    def occurrences(self, numbers: Numbers, last: Numbers | None = None) -> Counts:
        """How often the tokens follow one another in each passage; with `last` any of those may stand last."""
        places = [self._tokens == number for number in numbers]
        if last is not None:
            places.append(np.isin(self._tokens, last))
        if len(places) == 1:
            return np.bincount(self._owners[places[0]], minlength=len(self.chunks))
        starts = max(len(self._tokens) - len(places) + 1, 0)
        found = self._owners[:starts] == self._owners[len(places) - 1 :]
        for offset, place in enumerate(places):
            found &= place[offset : offset + starts]
        return np.bincount(self._owners[:starts][found], minlength=len(self.chunks))


class Passages(TokenRows):
    """The tokens of passages of a table. Those that are not indexed are left out."""

    def __init__(self, table: WordTable, connection: Connection, chunks: Sequence[int], tokenizer: Tokenizer) -> None:
        stored = table.tokens(connection, chunks, tokenizer)
        lengths: Counts = np.array([len(tokens) // _NUMBER.itemsize for tokens in stored.values()], np.int64)
        super().__init__(list(stored), lengths, b"".join(stored.values()))
        self._table = table
        self._connection = connection
        self._tokenizer = tokenizer

    def count(self, stems: Sequence[str], prefix: bool) -> Counts:
        """How often the tokens follow one another in each passage; with `prefix` the last of them may go on."""
        if not prefix:
            return self.occurrences(token_numbers(stems))
        going_on = self._table.starting_with(self._connection, stems[-1], self.chunks, self._tokenizer)
        return self.occurrences(token_numbers(stems[:-1]), going_on)


def encode_tokens(stems: Sequence[str]) -> bytes:
    """Tokens as they are kept: the CRC-32 of each, four bytes, the lowest first."""
    return token_numbers(stems).tobytes()


def token_numbers(stems: Sequence[str]) -> Numbers:
    """The CRC-32 of each token."""
    return np.fromiter((crc32(stem.encode()) for stem in stems), _NUMBER, len(stems))
