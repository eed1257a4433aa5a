"""Palaces of earlier versions: found by the earlier words until they are indexed anew, whatever ends in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import SchemaTooNew
from mempalace_mcp.storage.lexical import reword_stale
from mempalace_mcp.storage.sqlite.connection import SqliteConnection
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.sqlite.migrations import load_migrations, verify_schema
from tests.storage.drawer_support import Cabinet, cabinet
from tests.storage.support import connected, soon

WORDS = next(step for step in load_migrations() if step.name.endswith("_words.sql"))
TEXTS = {
    "зелёный маяк": "зеленый",
    "the LampOilStore is empty": "oil store",
    "C# and C++": "C++",
    "plain text": "plain",
}
"""Texts, and questions that find them by the words of this version."""


def age(connection: SqliteConnection) -> None:
    """Make the palace one that an earlier version has indexed, and that the step of the schema has just passed over."""
    connection.execute("DROP TABLE passage_words")
    connection.execute("DROP TABLE lexicon")
    connection.execute("DELETE FROM passages")
    connection.execute(
        "INSERT INTO passages (rowid, text) SELECT c.id, substr(d.content, c.start + 1, c.stop - c.start)"
        " FROM chunks c JOIN drawers d ON d.id = c.drawer"
    )
    connection.executescript(WORDS.sql)


def _sqlite(palace: Cabinet) -> SqliteConnection:
    assert isinstance(palace.connection, SqliteConnection)
    return palace.connection


@pytest.fixture
def aged() -> Iterator[tuple[Cabinet, list[str]]]:
    """A palace of an earlier version that was just brought to the present schema."""
    with cabinet() as palace:
        ids = palace.file_all(list(TEXTS))
        age(_sqlite(palace))
        yield palace, ids


def test_earlier_words_find_until_all_is_indexed_anew(aged: tuple[Cabinet, list[str]]) -> None:
    palace, ids = aged
    earlier = dict(zip(ids, ("зелёный", "LAMPOILSTORE", "C", "plain"), strict=True))
    assert palace.words.collection(palace.connection).rows == len(ids)
    for left in range(len(ids), -1, -1):
        assert palace.words.collection(palace.connection).stale == left
        for place, drawer in enumerate(ids):
            if place < left:
                assert palace.found(earlier[drawer])[:1] == [drawer]
            else:
                assert palace.found(TEXTS[palace.get(drawer).content])[:1] == [drawer]
        assert palace.write(lambda tx: reword_stale(tx, palace.lexicon, 1)) == (1 if left else 0)


def test_indexing_anew_keeps_totals_and_what_was_said(aged: tuple[Cabinet, list[str]]) -> None:
    palace, ids = aged
    before = palace.seq()
    palace.update(ids[0], occurred_at=0)
    new = palace.file("ёлка").drawer_id
    palace.delete(ids[3])
    while palace.write(lambda tx: reword_stale(tx, palace.lexicon, 3)):
        pass
    assert palace.seq() == before + 3, "nobody hears of it"
    kept = palace.words.collection(palace.connection)
    palace.write(FullTextTable().count_anew)
    assert kept == palace.words.collection(palace.connection)
    assert palace.found("елка") == [new]
    assert palace.get(ids[0]).content == "зелёный маяк"


def test_tokens_of_earlier_words_are_forgotten(aged: tuple[Cabinet, list[str]]) -> None:
    palace, _ = aged
    old = dict(palace.connection.execute("SELECT rowid, text FROM passages"))
    palace.write(lambda tx: palace.words.keep_tokens(tx, old, [text.split() for text in old.values()]))
    palace.write(lambda tx: reword_stale(tx, palace.lexicon, 100))
    left = {row[0] for row in palace.connection.execute("SELECT chunk FROM passage_tokens")}
    assert left == {4}, "only those whose words are the same"


def test_a_program_that_does_not_know_the_schema_is_refused(aged: tuple[Cabinet, list[str]]) -> None:
    palace, _ = aged
    palace.connection.execute(f"PRAGMA user_version = {WORDS.number}")
    with pytest.raises(SchemaTooNew):
        verify_schema(_sqlite(palace), WORDS.number - 1)


CHILD = """
import sys
from pathlib import Path
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.lexical import reword_stale
database, lexicon = Database(Path(sys.argv[1])), Lexicon(FullTextTable())
while database.write(lambda tx: reword_stale(tx, lexicon, 7), Deadline()):
    print("some", flush=True)
"""


def test_a_kill_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    count = 400
    Database(tmp_path).close()
    with connected(tmp_path / "palace.db") as connection:
        palace = Cabinet(connection)
        ids = palace.file_all([f"ёлка LampOilStore n{n}" for n in range(count)])
        palace.lexicon.close()
        age(connection)
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(4):
            assert child.stdout.readline() == "some\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    with closing(Database(tmp_path)) as database, database.read() as reader:
        left = FullTextTable().collection(reader).stale
        assert 0 < left <= count - 3 * 4 * 7
    with closing(Database(tmp_path)) as database:
        with connected(database.path) as connection:
            palace = Cabinet(connection)
            assert len(palace.found("ёлка", limit=count)) == count, "by the words of either version"
            while database.write(lambda tx: reword_stale(tx, palace.lexicon, 64), soon()):
                pass
            for question in ("елка", "oil store", "n7"):
                assert set(palace.found(question, limit=count)) >= {ids[7]}
            kept = palace.words.collection(connection)
            palace.write(FullTextTable().count_anew)
            assert kept == palace.words.collection(connection)
            palace.lexicon.close()
        assert database.integrity() == []
