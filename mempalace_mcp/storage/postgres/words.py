"""The table of words in PostgreSQL: tokens as numbers in arrays, with an index over their elements (GIN).

PostgreSQL finds the rows; they are scored here, by the formula that FTS5 uses. An index of words that ranks by itself
would take four times the space, and PostgreSQL's own ranking knows nothing of how rare a word is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.clock import UTC_ZONE, Zone
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage.connection import Connection, Parameters
from mempalace_mcp.storage.passage_texts import passage_texts
from mempalace_mcp.storage.postgres.asked_words import Asked, Found, any_of, each_of, signed
from mempalace_mcp.storage.postgres.database import BEGINNING
from mempalace_mcp.storage.postgres.failures import is_damage
from mempalace_mcp.storage.postgres.ways import Way, way_to_all, way_to_newest
from mempalace_mcp.storage.query_terms import Term
from mempalace_mcp.storage.tokenizer import FullTextTokenizer
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.word_table import (
    Collection,
    Counts,
    Matching,
    Numbers,
    Scored,
    Tokenizer,
    TokenRows,
    WordsUnreadable,
    WordTable,
    encode_tokens,
    token_numbers,
)

LONGEST_WORD = 256
"""Characters of a token by which its beginnings are found."""

MARGIN = 1.25
"""Rows per wanted hit that are joined with their drawers at first, as if the filter took its share of them."""

LOOKED_AT = 4
"""How many times more are joined if too few live."""

READ_AT_ONCE = 4_000
"""Passages, half a megabyte for a thousand; to read them takes as long as to find a word that as many hold."""

AT_ONCE = 64
"""Terms that are counted one and all, and phrases of one statement."""

SAFE = 5
"""A sample says that so many times more rows hold a word than it is counted to: so it is common without counting."""

REMEMBERED_WORDS = 20_000
"""Most tokens of a text are among so many; they take two megabytes."""

REBUILT_AT_ONCE = 500
SAMPLE = 1_000
"""Passages by which common words are told from those that may be held by none."""

_ADD = """
WITH passage AS (INSERT INTO passages (chunk, tokens, raw) VALUES (:chunk, :numbers::int4[], :raw)),
     new AS MATERIALIZED (SELECT * FROM unnest(:words::text[], :their_numbers::int4[]) AS new (word, number)),
     vocabulary AS (INSERT INTO words (word, number) SELECT word, number FROM new ON CONFLICT DO NOTHING),
     totals AS (UPDATE lexicon SET passages = passages + 1, tokens = tokens + :count RETURNING forgotten)
SELECT 'words'::regclass::oid::bigint, forgotten,
       ARRAY(SELECT new.word FROM new JOIN words w ON w.word = new.word AND w.number = new.number
             WHERE age(w.xmin) > 0)
FROM totals
"""
"""The words that come back are committed: they were there before this transaction, and the palace has one writer at a
time. `age` counts from it, also beyond the end of a round of transaction numbers. What it has added itself, or within a
savepoint, is not older."""
_ADD_WORDS = """
INSERT INTO {table} (word, number) SELECT * FROM unnest(:words::text[], :their_numbers::int4[]) ON CONFLICT DO NOTHING
"""
_ADD_NEW = "INSERT INTO new_passages (chunk, tokens, raw) VALUES (:chunk, :numbers::int4[], :raw)"
_COUNT_ANEW = """
INSERT INTO lexicon (id, passages, tokens, stale) SELECT 1, count(*), coalesce(sum(cardinality(tokens)), 0), 0
FROM passages
"""
_REMOVE = """
WITH gone AS (DELETE FROM passages WHERE chunk = ANY(:chunks::bigint[]) RETURNING tokens),
     loose AS (INSERT INTO loose_words SELECT DISTINCT unnest(tokens) FROM gone ON CONFLICT DO NOTHING)
UPDATE lexicon SET passages = passages - (SELECT count(*) FROM gone),
                   tokens = tokens - (SELECT coalesce(sum(cardinality(tokens)), 0) FROM gone)
"""
_FORGET_LOOSE = f"""
WITH recent AS MATERIALIZED (
        SELECT unnest(tokens) AS number FROM (SELECT tokens FROM passages ORDER BY chunk DESC LIMIT {SAMPLE}) AS last),
     doubtful AS MATERIALIZED (SELECT number FROM loose_words EXCEPT SELECT number FROM recent)
DELETE FROM words WHERE number IN (
    SELECT number FROM doubtful d WHERE NOT EXISTS (SELECT FROM passages p WHERE p.tokens @> ARRAY[d.number]))
"""
_NEW = (
    ("TABLE", "new_passages", "passages"),
    ("TABLE", "new_words", "words"),
    ("INDEX", "new_passages_pkey", "passages_pkey"),
    ("INDEX", "new_passages_tokens_idx", "passages_by_token"),
    ("INDEX", "new_words_pkey", "words_pkey"),
)
"""What is made anew, by the names that PostgreSQL gives at first."""
_STARTING = """
SELECT DISTINCT key, number FROM unnest(?::text[], ?::text[]) WITH ORDINALITY AS asked (first, after, key)
JOIN words ON word >= first COLLATE "C" AND word < after COLLATE "C"
"""
_FREQUENT = """
SELECT held.token FROM pg_stats, unnest(most_common_elems::text::int4[], most_common_elem_freqs) AS held (token, share)
WHERE schemaname = current_schema() AND tablename = 'passages' AND attname = 'tokens' AND held.token IS NOT NULL
AND held.share * (SELECT passages FROM lexicon) >= ?
"""
_FETCH = """
SELECT string_agg(int8send(passages.chunk), ''), string_agg(int4send(length(raw) / 4), ''), string_agg(raw, ''),
       (SELECT passages FROM lexicon), (SELECT tokens FROM lexicon) FROM {source}
"""


Scores = npt.NDArray[np.float64]


class PostgresWords(WordTable):
    """The tables `passages`, `words`, `loose_words` and `lexicon`. It holds no connection.

    `zone` is the one in which days are words of what happened in them.
    """

    keeps_tokens = True

    def __init__(self, zone: Zone = UTC_ZONE) -> None:
        self._zone = zone
        self._tokenizer = FullTextTokenizer()
        self._stems: LruMap[str, tuple[str, ...]] = LruMap(4096)
        self._vocabulary = _Vocabulary(None)

    def new_tokenizer(self) -> FullTextTokenizer:
        """That of SQLite's tables: a palace reads words alike, wherever it lies."""
        return FullTextTokenizer()

    def collection(self, connection: Connection, /) -> Collection:
        """The totals as of the last commit.

        Raises:
            PalaceCorrupt: they are missing.
        """
        return Collection.of(_read(connection, Collection.QUERY))

    def matching(self, connection: Connection, filter: DrawerFilter, /, *, weigh: bool) -> Matching:
        """The table as the filter leaves it."""
        return _ArrayMatching(self, connection, filter, weigh=weigh)

    def count(self, connection: Connection, terms: Iterable[Term], most: int | None = None, /) -> int:
        """How many rows hold one of the terms, counted up to `most`."""
        found = any_of(self.look_up(connection, terms))
        ((count,),) = _read(connection, f"SELECT {_counted(found.sql)}", found.values | {"most": most})
        return int(count)

    def counts(self, connection: Connection, terms: Sequence[Term], most: int | None = None, /) -> dict[Term, int]:
        """How many rows hold each of the terms, counted up to `most`."""
        counts = dict.fromkeys(terms, 0)
        asked = dict(zip(counts, self.look_up(connection, counts), strict=True))
        words = {term: signed(each.numbers)[0] for term, each in asked.items() if each.is_word}
        if most is not None and len(words) > AT_ONCE:
            common = self._common(connection, most)
            counts |= {term: most for term, token in words.items() if token in common}
            words = {term: token for term, token in words.items() if token not in common}
        if words:
            sql = _COUNT_WORDS.format(listed=connection.dialect.listed(":words", "listed"))
            rows = _read(connection, sql, {"words": list(words.values()), "most": most})
            counted = list(words)
            counts |= {counted[key - 1]: count for key, count in rows}
        others = [term for term, each in asked.items() if not each.is_word]
        for first in range(0, len(others), AT_ONCE):
            part = others[first : first + AT_ONCE]
            found = [any_of([asked[term]], f"of{place}_") for place, term in enumerate(part)]
            sql = " UNION ALL ".join(f"SELECT {place}, {_counted(each.sql)}" for place, each in enumerate(found))
            rows = _read(connection, sql, _together(found, {"most": most}))
            counts |= {part[place]: count for place, count in rows}
        return counts

    def _common(self, connection: Connection, most: int) -> frozenset[int]:
        """Tokens that so many rows hold without doubt. PostgreSQL knows the thousand most frequent ones from a sample;
        to count the rows of one takes up to thirty milliseconds."""
        return frozenset(token for (token,) in _read(connection, _FREQUENT, (SAFE * most,)))

    def add(self, tx: Transaction, chunk: int, text: str, /) -> None:
        """Make a chunk findable by the words of a text."""
        (stems,) = self._tokenizer.stems([text])
        vocabulary = self._vocabulary
        values = _passage(chunk, stems) | _words(stems, vocabulary.words) | {"count": len(stems)}
        row = tx.connection.execute(_ADD, values).fetchone()
        state, committed = (row[:2], row[2]) if row else (None, ())
        if state == vocabulary.state:
            vocabulary.remember(committed)
        else:
            tx.connection.execute(_ADD_WORDS.format(table="words"), _words(stems))
            self._vocabulary = _Vocabulary(state)

    def remove(self, tx: Transaction, chunks: Sequence[int], /) -> None:
        """Make chunks unfindable. Words that no passage holds any more stay in `words` until the table is compacted."""
        tx.connection.execute(_REMOVE, {"chunks": list(chunks)})

    def compact(self, tx: Transaction, /) -> None:
        """Forget words that no passage holds any more. VACUUM, which PostgreSQL runs by itself, frees their bytes."""
        tx.connection.execute(_FORGET_LOOSE)
        tx.connection.execute("DELETE FROM loose_words")
        tx.connection.execute("UPDATE lexicon SET forgotten = forgotten + 1")

    def rebuild(self, tx: Transaction, /) -> None:
        """Make the tables and the totals anew out of the drawers. Readers see the former ones meanwhile."""
        connection = tx.connection
        for table in ("passages", "words"):
            connection.execute(f"CREATE TABLE new_{table} (LIKE {table} INCLUDING ALL)")
        last = 0
        while chunks := connection.execute(
            "SELECT id, drawer, start, stop FROM chunks WHERE id > ? ORDER BY id LIMIT ?", (last, REBUILT_AT_ONCE)
        ).fetchall():
            texts = passage_texts(connection, chunks, self._zone)
            stems = self._tokenizer.stems(list(texts.values()))
            connection.executemany(_ADD_NEW, list(map(_passage, texts, stems)))
            connection.execute(_ADD_WORDS.format(table="new_words"), _words(chain.from_iterable(stems)))
            last = chunks[-1][0]
        connection.execute("DROP TABLE passages, words")
        for kind, name, final in _NEW:
            connection.execute(f"ALTER {kind} {name} RENAME TO {final}")
        connection.execute("DELETE FROM loose_words")
        connection.execute("DELETE FROM lexicon")
        connection.execute(_COUNT_ANEW)

    def set_stale(self, tx: Transaction, stale: int, /) -> None:
        """Only passages up to the number `stale` hold words as earlier versions read them."""
        tx.connection.execute("UPDATE lexicon SET stale = ?", (stale,))

    def differing(self, connection: Connection, texts: Mapping[int, str], /) -> list[int]:
        """Those of the passages that hold other tokens."""
        stored = self.tokens(connection, list(texts), self._tokenizer)
        stems = self._tokenizer.stems(list(texts.values()))
        return [chunk for chunk, new in zip(texts, stems, strict=True) if stored.get(chunk) != encode_tokens(new)]

    def tokens(self, connection: Connection, chunks: Sequence[int], tokenizer: Tokenizer, /) -> dict[int, bytes]:
        """The tokens of passages."""
        return dict(
            _read(connection, "SELECT chunk, raw FROM passages WHERE chunk = ANY(?::bigint[])", (list(chunks),))
        )

    def starting_with(
        self, connection: Connection, beginning: str, chunks: Sequence[int], tokenizer: Tokenizer, /
    ) -> Numbers:
        """The tokens of all passages that begin so."""
        return self._starting_with(connection, [beginning])[beginning]

    def texts_after(self, connection: Connection, chunk: int, limit: int, /) -> list[tuple[int, str | None]]:
        """None: the tokens of all passages are kept."""
        return []

    def keep_tokens(self, tx: Transaction, texts: Mapping[int, str], stems: Iterable[Sequence[str]], /) -> None:
        """Nothing: they are kept with the passages."""

    def look_up_groups(self, connection: Connection, groups: Sequence[Sequence[Term]]) -> list[list[Asked]]:
        """Groups of terms as the table has them."""
        asked = iter(self.look_up(connection, chain.from_iterable(groups)))
        return [list(islice(asked, len(group))) for group in groups]

    def look_up(self, connection: Connection, terms: Iterable[Term]) -> list[Asked]:
        """Terms as the table has them, in their order."""
        known = self._stems_of(list(terms))
        beginnings = dict.fromkeys(stems[-1] for term, stems in known if term.prefix and stems)
        going_on = self._starting_with(connection, list(beginnings)) if beginnings else {}
        return [
            Asked(token_numbers(stems[:-1]), going_on[stems[-1]])
            if term.prefix and stems
            else Asked(token_numbers(stems))
            for term, stems in known
        ]

    def _starting_with(self, connection: Connection, beginnings: Sequence[str]) -> dict[str, Numbers]:
        first = [each[:LONGEST_WORD] for each in beginnings]
        rows = _read(connection, _STARTING, (first, [each + chr(0x10FFFF) for each in first]))
        numbers: list[list[int]] = [[] for _ in beginnings]
        for place, number in rows:
            numbers[place - 1].append(number)
        return {each: np.array(own, np.int32).astype(np.uint32) for each, own in zip(beginnings, numbers, strict=True)}

    def _stems_of(self, terms: Sequence[Term]) -> list[tuple[Term, tuple[str, ...]]]:
        known = {term.text: self._stems.get(term.text) for term in terms}
        new = [text for text, stems in known.items() if stems is None]
        for text, stems in zip(new, self._tokenizer.stems(new) if new else (), strict=True):
            self._stems.put(text, stems)
            known[text] = stems
        return [(term, known[term.text] or ()) for term in terms]


class _Vocabulary:
    """Words that are in the table `words` for certain, as long as it is in a state: which table it is, and how often
    words were dropped. Most words of a passage are among them, and need not be looked for."""

    def __init__(self, state: tuple[int, int] | None) -> None:
        self.state = state
        self.words: set[str] = set()

    def remember(self, words: Iterable[str]) -> None:
        """Take in words that are committed."""
        if len(self.words) > REMEMBERED_WORDS:
            self.words.clear()
        self.words.update(word for word in words if len(word) < LONGEST_WORD)


class _ArrayMatching(Matching):
    """Rows that PostgreSQL finds, scored here."""

    def __init__(self, table: PostgresWords, connection: Connection, filter: DrawerFilter, *, weigh: bool) -> None:
        super().__init__(connection, filter, weigh=weigh)
        self._table = table
        self._rows = table.collection(connection).rows if weigh else 0

    def best(self, frequencies: Mapping[Term, int], limit: int) -> list[Scored]:
        """Chunks and their bm25, best first; of equals the older first, as FTS5 has them."""
        asked = self._table.look_up(self._connection, frequencies)
        counts = list(frequencies.values())
        if self._reads_all(sum(counts)):
            return _ranked(*_scores(asked, *self._within, counts))[:limit]
        if self.narrow:
            way = way_to_all(sum(counts), self.share * self._rows)
            return _ranked(*_scores(asked, *self._fetch(any_of(asked), way.source), counts))[:limit]
        ranking = _ranked(*_scores(asked, *self._fetch(any_of(asked), _among_all)))
        found: list[Scored] = []
        looked_at = ceil(MARGIN * limit / self.share)
        while ranking and len(found) < limit:
            scores = dict(ranking[:looked_at])
            found += [(chunk, scores[chunk]) for chunk in self.living(list(scores))]
            ranking, looked_at = ranking[looked_at:], LOOKED_AT * looked_at
        return found[:limit]

    def newest(self, groups: Sequence[Mapping[Term, int]], limit: int) -> list[list[int]]:
        """Chunks that hold all of a group, latest first."""
        asked = self._table.look_up_groups(self._connection, list(map(list, groups)))
        rows = max(self._rows, 1)
        matches = [rows * prod(count / rows for count in frequencies.values()) for frequencies in groups]
        if self._reads_all(sum(matches)):
            return [self._newest_within(group, limit) for group in asked]
        found = [each_of(group, f"of{place}_") for place, group in enumerate(asked)]
        parts = []
        for each, count in zip(found, matches, strict=True):
            way = way_to_newest(count, self.share * rows, rows, limit)
            source = way.source(each.sql, self._condition.sql)
            parts.append(f"SELECT passages.chunk FROM {source} ORDER BY 1 DESC LIMIT :limit")
        return _by_group(self._connection, parts, found, self._condition.values | {"limit": limit})

    def rare(self, groups: Sequence[Sequence[Term]], most: int) -> list[frozenset[int]]:
        """Chunks that hold a term of a group, if few do."""
        asked = self._table.look_up_groups(self._connection, groups)
        found = [any_of(group, f"of{place}_") for place, group in enumerate(asked)]
        parts = [f"SELECT chunk FROM {_first_found(each.sql)}" for each in found]
        rows = _by_group(self._connection, parts, found, {"most": most + 1})
        few = [frozenset(chunks if len(chunks) <= most else ()) for chunks in rows]
        living = frozenset(self.living(list(frozenset().union(*few)))) if any(few) else frozenset()
        return [chunks & living for chunks in few]

    def scores(self, terms: Iterable[Term]) -> dict[int, float]:
        """The bm25 of every chunk that matches."""
        asked = self._table.look_up(self._connection, terms)
        chunks, scores = _scores(asked, *self._fetch(any_of(asked), _among_all))
        return dict(zip(chunks.tolist(), scores.tolist(), strict=True))

    def _reads_all(self, matches: float) -> bool:
        """Are all passages that the filter leaves read at once, whatever words they hold, since more hold these?"""
        within = self.share * self._rows
        return self.narrow and within <= READ_AT_ONCE and ("_within" in self.__dict__ or matches > within)

    @cached_property
    def _within(self) -> tuple[TokenRows, Collection]:
        return self._fetch(Found("true", {}), Way.BY_FILTER.source)

    def _newest_within(self, group: Sequence[Asked], limit: int) -> list[int]:
        passages, _ = self._within
        held = np.ones(len(passages.chunks), np.bool_)
        for each in group:
            held &= passages.occurrences(each.numbers, each.last) > 0
        return sorted(np.array(passages.chunks, np.int64)[held].tolist(), reverse=True)[:limit]

    def _fetch(self, found: Found, source: Callable[[str, str], str]) -> tuple[TokenRows, Collection]:
        """The tokens of rows, and the totals of the table."""
        ((chunks, lengths, tokens, rows, total),) = _read(
            self._connection,
            _FETCH.format(source=source(found.sql, self._condition.sql)),
            found.values | self._condition.values,
        )
        numbers = np.frombuffer(chunks or b"", ">i8").tolist()
        passages = TokenRows(numbers, np.frombuffer(lengths or b"", ">i4").astype(np.int64), tokens or b"")
        return passages, Collection(rows, total)


def _scores(
    asked: Sequence[Asked], passages: TokenRows, collection: Collection, counts: Sequence[int] | None = None
) -> tuple[Counts, Scores]:
    """The passages that hold one of the terms, and their bm25. `counts` says how many rows of the table hold each term;
    without it these are all rows that do."""
    scores = np.zeros(len(passages.chunks))
    for place, each in enumerate(asked):
        occurrences = passages.occurrences(each.numbers, each.last)
        frequency = counts[place] if counts else int(np.count_nonzero(occurrences))
        scores += collection.weight(frequency) * collection.saturation(occurrences, passages.lengths)
    held = scores > 0
    return np.array(passages.chunks, np.int64)[held], scores[held]


def _first_found(condition: str) -> str:
    """The chunks under a condition, up to `:most`. Without the detour PostgreSQL would look for these one by one, as if
    they were many."""
    return (
        f"(WITH found AS MATERIALIZED (SELECT chunk FROM passages WHERE {condition})"
        " SELECT chunk FROM found LIMIT :most::bigint) AS first"
    )


def _counted(condition: str) -> str:
    """How many rows there are under a condition, up to `:most`."""
    return f"(SELECT count(*) FROM {_first_found(condition)})"


def _by_group(
    connection: Connection, parts: Sequence[str], found: Sequence[Found], values: dict[str, Any]
) -> list[list[int]]:
    """The chunks that each of the queries finds, in one statement."""
    chunks: list[list[int]] = [[] for _ in parts]
    numbered = [f"SELECT {place} AS part, chunk FROM ({part}) AS part{place}" for place, part in enumerate(parts)]
    sql = " UNION ALL ".join(numbered)
    for place, chunk in _read(connection, sql, _together(found, values)) if parts else ():
        chunks[place].append(chunk)
    return chunks


def _together(found: Iterable[Found], values: dict[str, Any]) -> dict[str, Any]:
    return values | {name: value for each in found for name, value in each.values.items()}


_COUNT_WORDS = f"SELECT key, {_counted('tokens @> ARRAY[value::int4]')} FROM {{listed}}"


def _among_all(words: str, filter: str) -> str:
    return f"passages WHERE {words}"


def _ranked(chunks: Counts, scores: Scores) -> list[Scored]:
    """Best first, of equals the older first."""
    order = np.lexsort((chunks, -scores))
    return list(zip(chunks[order].tolist(), scores[order].tolist(), strict=True))


def _passage(chunk: int, stems: Sequence[str]) -> dict[str, Any]:
    """A row of `passages`, as parameters."""
    numbers = token_numbers(stems)
    return {"chunk": chunk, "numbers": signed(numbers), "raw": numbers.tobytes()}


def _words(stems: Iterable[str], known: Container[str] = ()) -> dict[str, Any]:
    """Rows of `words`, as parameters, without those that are known."""
    new = list(dict.fromkeys(stem for stem in stems if stem not in known))
    return {"words": [stem[:LONGEST_WORD] for stem in new], "their_numbers": signed(token_numbers(new))}


def _read(connection: Connection, sql: str, parameters: Parameters = ()) -> list[Any]:
    """The rows of a query. What was read before stays readable after an error.

    Raises:
        WordsUnreadable: PostgreSQL cannot read the tables.
        psycopg.Error: the server is in the way.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except psycopg.Error as error:
        if not is_damage(error):
            raise
        with contextlib.suppress(psycopg.Error):  # within a write there is no such point; the write fails
            connection.execute(f"ROLLBACK TO {BEGINNING}")
        raise WordsUnreadable from error
