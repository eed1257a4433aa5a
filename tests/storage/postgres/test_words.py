"""Words in PostgreSQL: the same rows, scores and ranking as in SQLite, and nothing left of what was removed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import DeadlineExceeded, PalaceCorrupt, PalaceError
from mempalace_mcp.core.model import DrawerChanges, DrawerFilter, NewDrawer, Span
from mempalace_mcp.storage import lexical
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.lexical import Lexicon, reword_stale
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.words import LONGEST_WORD, PostgresWords
from mempalace_mcp.storage.query_terms import Term, read_query
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.word_table import WordsUnreadable, WordTable
from tests.postgres_server import Server, fresh_schema, shared_address
from tests.storage.drawer_support import EVERY, START, place, whole
from tests.storage.support import soon

T = TypeVar("T")


class Shelf:
    """Drawers and words in one database; the clock ticks once per unit of work."""

    def __init__(self, database: PalaceDatabase, table: WordTable) -> None:
        self.database = database
        self.words = table
        self.lexicon = Lexicon(table)
        self.drawers = DrawerStore(self.lexicon)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run one unit of work."""
        return self.database.write(work, soon())

    def ask(self, question: Callable[[Connection], T]) -> T:
        """What one snapshot says."""
        with self.database.read() as connection:
            return question(connection)

    def file(self, texts: Sequence[str], wing: str = "Work", room: str = "Notes", **details: Any) -> list[str]:
        """File texts in one unit of work; returns their ids."""
        new = [NewDrawer(place(wing, room), text, **details) for text in texts]
        return self.write(lambda tx: [self.drawers.file(tx, each, whole(each.content)).drawer_id for each in new])

    def change(self, drawer: str, content: str) -> None:
        """Give a drawer another text."""
        self.write(lambda tx: self.drawers.update(tx, drawer, DrawerChanges(content=content), whole(content)))

    def delete(self, drawers: Sequence[str]) -> None:
        """Move drawers to the trash."""
        self.write(lambda tx: self.drawers.delete(tx, drawers))

    def purge(self) -> None:
        """Empty the trash."""
        self.write(lambda tx: self.drawers.purge(tx, 10 * START, 10_000))

    def found(self, query: str, limit: int = 50, filter: DrawerFilter = EVERY) -> list[tuple[int, float]]:
        """Chunks and their bm25, best first."""
        hits = self.ask(lambda connection: self.lexicon.search(connection, query, limit, filter))
        return [(hit.chunk, hit.bm25) for hit in hits]

    def chunks(self, query: str) -> list[int]:
        """Chunks, best first."""
        return [chunk for chunk, _ in self.found(query)]

    def weighed(self, query: str, limit: int, filter: DrawerFilter) -> lexical.Weighed:
        """What the words of a query earn, also those of chunks that lack them or are not there."""
        return self.ask(lambda connection: self.lexicon.weigh(connection, query, limit, filter, [3, 1, 10**6]))

    def scores(self, query: str) -> dict[int, float]:
        """The bm25 of all chunks."""
        return self.ask(lambda connection: self.lexicon.scores(connection, query, list(range(1, 500))))

    def counts(self, query: str) -> dict[Term, int]:
        """How many passages hold the terms of a query."""
        return self.ask(lambda connection: self.words.counts(connection, read_query(query), 20))

    def frequent(self, query: str, filter: DrawerFilter) -> frozenset[str]:
        """The words of a query that a tenth of the passages hold."""
        return self.ask(lambda connection: self.lexicon.frequent_words(connection, query, filter, 0.1))

    def run(self, statement: str) -> None:
        """Change the tables behind the back of the program."""
        self.write(lambda tx: tx.connection.execute(statement))

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a query."""
        return self.ask(lambda connection: connection.execute(statement, values).fetchall())


@pytest.fixture(scope="module", autouse=True)
def server() -> str:
    """It is no process that a test leaves behind."""
    return shared_address()


def _ticking() -> Callable[[], Instant]:
    ticks = itertools.count(START, 1_000_000)
    return lambda: next(ticks)


@contextmanager
def postgres_shelf(directory: Path, address: str | None = None) -> Iterator[Shelf]:
    """An empty palace in PostgreSQL."""
    with (
        fresh_schema(address) as url,
        closing(PostgresDatabase(url, directory, now=_ticking(), readers=2)) as database,
    ):
        shelf = Shelf(database, PostgresWords())
        with closing(shelf.lexicon):
            yield shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with postgres_shelf(tmp_path) as shelf:
        yield shelf


@pytest.fixture
def both(tmp_path: Path, shelf: Shelf) -> Iterator[tuple[Shelf, Shelf]]:
    """One palace in SQLite, the other in PostgreSQL."""
    with closing(Database(tmp_path / "palace", now=_ticking())) as database:
        other = Shelf(database, FullTextTable())
        with closing(other.lexicon):
            yield other, shelf


PIECES = (
    *("harbour", "Harbours", "lantern", "lanterns", "red", "wine", "running", "ran", "the", "of", "ferry", "quay"),
    *("café", "cafe\u0301", "naïve", "Straße", "Möwe", "Moewe", "Đorđe", "O'Malley", "e-mail", "İstanbul", "\u0301"),
    *("東京都の天気", "東京", "猫", "黒猫がいる", "猫耳", "한국어를", "การค้นหา", "हिन्दी", "письмо", "ёлка", "γάτα"),
    *("PROJ-12", "PROJ-123", "PROJ-1234", "src/auth/token.py", "user_id", "getUserName", "getUserNames", "v1.2.3"),
    *("5b1f0c9ae27d", "5b1f0c9ae27d4413", "5b1f0c9", "0xDEAD", "C++", "C#", "nora@example.org", "978-0-306-40615-7"),
    *("internationalization", "internationalize", "internally", "x" * 300, "x" * 299 + "y", "\U0001f916", "--", "a_b"),
)
ASKED = (
    *PIECES,
    *(
        "lanter*",
        '"red wine"',
        '"wine red"',
        '"red 猫"',
        '"quay 東京"',
        "red-wine",
        "to be or not",
        "猫 東",
        "京",
        "語",
    ),
    *(
        "proj 1",
        "getUser",
        "user",
        "5b1f0c9ae2",
        "token.p",
        "src/auth",
        "example",
        '"the harbour of"',
        "",
        "?!",
        "DEAD",
    ),
)


def _write_alike(shelves: tuple[Shelf, Shelf], seed: int, count: int) -> None:
    """File, change, move to the trash and purge the same in each palace."""
    chooser = random.Random(seed)
    texts = [" ".join(chooser.choices(PIECES, k=chooser.randint(1, 14))) + f" n{n}" for n in range(count)]
    rooms = [chooser.choices(("one", "two", "three"), weights=(80, 17, 3))[0] for _ in texts]
    changed = {n: " ".join(chooser.choices(PIECES, k=5)) for n in chooser.sample(range(count), count // 10)}
    gone, purged = chooser.sample(range(count), count // 8), chooser.sample(range(count), count // 20)
    for shelf in shelves:
        ids = [
            shelf.file([text], room=room, occurred_at=START if n % 7 == 0 else None)[0]
            for n, (text, room) in enumerate(zip(texts, rooms, strict=True))
        ]
        for n, text in changed.items():
            shelf.change(ids[n], text)
        shelf.delete([ids[n] for n in purged])
        shelf.purge()
        shelf.delete([ids[n] for n in gone if n not in purged])


FILTERS = (
    EVERY,
    DrawerFilter(room="one"),
    DrawerFilter(room="two"),
    DrawerFilter(room="three"),
    DrawerFilter(wing="nowhere"),
    DrawerFilter(since=START + 1),
)


def _queries(seed: int) -> list[str]:
    """Some of one piece each, some of several."""
    chooser = random.Random(-seed)
    several = (" ".join(chooser.choices(ASKED, k=chooser.randint(2, 9))) for _ in range(10))
    return [*chooser.sample(ASKED, 15), *several]


def _agree(shelves: tuple[Shelf, Shelf], queries: Sequence[str], limit: int) -> None:
    one, other = shelves
    for query, filter in itertools.product(queries, FILTERS):
        hits, others = one.found(query, limit, filter), other.found(query, limit, filter)
        assert [chunk for chunk, _ in hits] == [chunk for chunk, _ in others], (query, filter)
        assert dict(hits) == pytest.approx(dict(others)), (query, filter)
        first, second = one.weighed(query, limit, filter), other.weighed(query, limit, filter)
        assert first.bm25 == pytest.approx(second.bm25), (query, filter)
        assert first.holders == second.holders, (query, filter)
        assert first.possible == pytest.approx(second.possible)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_small_palace_is_searched_as_in_sqlite(both: tuple[Shelf, Shelf], seed: int) -> None:
    _write_alike(both, seed, 150)
    _agree(both, _queries(seed), 50)


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_large_palace_is_searched_as_in_sqlite(
    both: tuple[Shelf, Shelf], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as large is made small, so that every way through a search is gone."""
    for name, value in (("SMALL_TABLE", 50), ("LEAST_RANKED", 60), ("MOST_RANKED", 120), ("DIRECTLY_SCORED", 8)):
        monkeypatch.setattr(lexical, name, value)
    _write_alike(both, seed, 250)
    queries = _queries(seed)
    queries.append(" ".join(f"frame{n} harbour" for n in range(lexical.MAX_TERMS + 5)) + " lantern n7")
    _agree(both, queries, 5)
    for shelf in both:
        assert shelf.lexicon.statistics().partial_searches > len(queries)
    one, other = both
    for query in queries:
        assert one.scores(query) == pytest.approx(other.scores(query)), query
        assert one.counts(query) == other.counts(query), query
    for filter in FILTERS:
        assert one.frequent("red n7 harbour", filter) == other.frequent("red n7 harbour", filter)


def test_totals_are_those_of_sqlite(both: tuple[Shelf, Shelf]) -> None:
    _write_alike(both, 6, 200)
    one, other = (shelf.ask(shelf.words.collection) for shelf in both)
    assert one.rows == other.rows
    ((tokens,),) = both[1].rows("SELECT sum(cardinality(tokens)) FROM passages")
    assert other.tokens == tokens
    assert one.tokens == pytest.approx(tokens, abs=2)


def test_words_that_begin_alike_are_told_apart(shelf: Shelf) -> None:
    shelf.file(["x" * 300, "x" * 299 + "y", "x" * LONGEST_WORD, "x" * 200])

    def count(text: str) -> int:
        return shelf.ask(lambda connection: shelf.words.count(connection, [Term(text, prefix=True)]))

    assert [count("x" * size) for size in (1, 200, 201, LONGEST_WORD)] == [4, 4, 3, 3]
    assert len(shelf.found("x" * 300)) == 1


def test_what_is_purged_leaves_no_word(shelf: Shelf) -> None:
    kept = shelf.file(["a harbour with ferries"])
    gone = shelf.file(["an unspeakable harbour"])
    changed = shelf.file(["another unsayable thing"])[0]
    shelf.change(changed, "another thing")
    for turn in range(2):
        shelf.delete(gone if turn == 0 else [changed])
        shelf.purge()
        words = {word for (word,) in shelf.rows("SELECT word FROM words")}
        assert {"harbour", "ferri"} <= words
        assert not words & {"unspeak", "unsay", "unsai"}
        assert shelf.rows("SELECT count(*) FROM loose_words") == [(0,)]
    assert shelf.chunks("harbour ferry") == [1]
    assert shelf.ask(shelf.words.collection).rows == len(kept)
    assert _words_are_complete(shelf)


def test_a_write_that_is_refused_leaves_no_word(shelf: Shelf) -> None:
    with pytest.raises(PalaceCorrupt):
        shelf.write(lambda tx: _refused(shelf, tx, "an unspeakable harbour"))
    assert shelf.rows("SELECT count(*) FROM words") == [(0,)]
    assert shelf.ask(shelf.words.collection).rows == 0


def _words_are_complete(shelf: Shelf) -> bool:
    held = shelf.rows("SELECT DISTINCT unnest(tokens) FROM passages")
    return {*held} == {*shelf.rows("SELECT number FROM words")}


def test_what_a_server_remembers_of_words_is_never_too_much(shelf: Shelf) -> None:
    other = Shelf(shelf.database, PostgresWords())  # as another server has it
    with closing(other.lexicon):
        for turn in range(4):
            first = shelf.file([f"kumquat harbour n{turn}"])
            kept = shelf.file([f"kumquat quay m{turn}"])  # its words are known to be there
            assert _words_are_complete(shelf)
            if turn == 2:
                shelf.write(other.words.rebuild)
            other.delete([*first, *kept])
            other.purge()
            assert shelf.rows("SELECT count(*) FROM words") == [(0,)]
            with pytest.raises(PalaceCorrupt):
                shelf.write(lambda tx: _refused(shelf, tx, "kumquat harbour"))


def _refused(shelf: Shelf, tx: Transaction, text: str) -> None:
    for n in range(3):
        shelf.drawers.file(tx, NewDrawer(place(), f"{text} n{n}"), [Span(0, len(text))])
    raise PalaceCorrupt("refused", hint="")


def test_missing_totals_are_damage_and_rebuilding_mends_it(shelf: Shelf) -> None:
    shelf.file(["a lantern", "a red lantern", "東京"], occurred_at=clock.parse("2023-05-08", "at"))
    before = [shelf.found(query) for query in ("lantern", "東", "monday")]
    tables = [shelf.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("passages", "words", "lexicon")]
    for damage in (
        "DELETE FROM lexicon",
        "DELETE FROM words",
        "DELETE FROM passages",
        "UPDATE passages SET tokens = '{1}', raw = '12'",
        "INSERT INTO loose_words VALUES (1)",
    ):
        shelf.run(damage)
        shelf.write(shelf.words.rebuild)
        assert [shelf.found(query) for query in ("lantern", "東", "monday")] == before
        again = [shelf.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("passages", "words", "lexicon")]
        assert again == tables
        assert shelf.rows("SELECT count(*) FROM loose_words") == [(0,)]
    shelf.run("DELETE FROM lexicon")
    with pytest.raises(PalaceCorrupt, match="words") as caught:
        shelf.found("lantern")
    assert "reindex" in str(caught.value.hint)


def test_a_reader_keeps_its_snapshot_while_the_tables_are_made_anew(shelf: Shelf) -> None:
    shelf.file(["a lantern"])
    with shelf.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM wings").fetchone() == (1,)
        shelf.file(["another lantern"])
        shelf.write(shelf.words.rebuild)
        assert connection.execute("SELECT count(*) FROM drawers").fetchone() == (1,)
    assert len(shelf.found("lantern")) == 2


def test_passages_of_earlier_words_are_indexed_anew(shelf: Shelf) -> None:
    shelf.file(["a harbour", "a quay", "a ferry"])
    old = replace(shelf.ask(shelf.words.collection), stale=3)

    def age(tx: Transaction) -> None:
        shelf.words.remove(tx, [2])
        shelf.words.add(tx, 2, "as it was read once")
        shelf.words.set_stale(tx, 3)

    shelf.write(age)
    assert shelf.ask(shelf.words.collection).stale == 3
    assert shelf.chunks("read once") == [2]
    assert shelf.write(lambda tx: reword_stale(tx, shelf.lexicon, 10)) == 3
    assert shelf.found("read once") == []
    assert shelf.chunks("quay") == [2]
    assert shelf.ask(shelf.words.collection) == replace(old, stale=0)


def test_unreadable_words_are_said_to_be_so_and_the_snapshot_stays(shelf: Shelf) -> None:
    shelf.file(["a lantern"])
    shelf.run("ALTER TABLE passages RENAME TO hidden")
    with shelf.database.read() as connection:
        before = connection.execute("SELECT count(*) FROM drawers").fetchone()
        shelf.run("INSERT INTO wings (key, name) VALUES ('new', 'new')")
        for _ in range(2):
            with pytest.raises(WordsUnreadable):
                shelf.lexicon.search(connection, "lantern", 5, EVERY)
            assert connection.execute("SELECT count(*) FROM drawers").fetchone() == before
            assert connection.execute("SELECT count(*) FROM wings").fetchone() == (1,), "the snapshot is the same"
    with pytest.raises(PalaceError):
        shelf.found("lantern")
    with pytest.raises(PalaceError):
        shelf.file(["another lantern"])
    shelf.run("ALTER TABLE hidden RENAME TO passages")
    assert len(shelf.found("lantern")) == 1


def test_other_errors_are_not_taken_for_damage(shelf: Shelf) -> None:
    shelf.file(["a lantern"])

    assert isinstance(shelf.database, PostgresDatabase)
    url = shelf.database.url

    def search(connection: Connection) -> None:
        connection.execute("SET LOCAL lock_timeout = 50")
        shelf.lexicon.search(connection, "lantern", 5, EVERY)

    with psycopg.connect(url.conninfo) as other:
        other.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(url.schema, "passages")))
        with pytest.raises(DeadlineExceeded):
            shelf.ask(search)
    assert len(shelf.found("lantern")) == 1


def test_a_damaged_page_is_found_and_rebuilding_mends_it(tmp_path: Path) -> None:
    server = Server(durable=True)
    try:
        server.start()
        with postgres_shelf(tmp_path, server.address) as shelf:
            shelf.file([f"a lantern n{n}" for n in range(300)])
            for relation in ("passages", "passages_by_token"):
                ((file,),) = shelf.rows("SELECT pg_relation_filepath(?::regclass)", relation)
                with psycopg.connect(server.address, autocommit=True) as connection:
                    connection.execute(sql.SQL("CHECKPOINT"))
                server.stop()
                damaged = server.data / file
                damaged.write_bytes(bytes(each ^ 0x55 for each in damaged.read_bytes()))
                server.start()
                with pytest.raises(PalaceError) as caught:
                    shelf.found("lantern")
                assert isinstance(caught.value.__cause__, WordsUnreadable)
                assert shelf.rows("SELECT count(*) FROM drawers") == [(300,)]
                assert shelf.database.statistics().damaged
                shelf.write(shelf.words.rebuild)
                assert len(shelf.found("lantern", 400)) == 300
    finally:
        server.remove()
