"""Search through the facade, with the real model, index and words."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mempalace_mcp.cli import manage
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import EmbedderUnavailable, InvalidArgument, PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter, Priority, SearchMode
from mempalace_mcp.palace.chunk_embedder import FLOOD_SHARE, NEWEST
from mempalace_mcp.palace.token_estimate import estimate_tokens
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.lexical import find_verbatim
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from tests.palace.support import at, opened

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]

NOTES = (
    ("home", "garden", "The tomatoes stand in the bed behind the shed and want water every morning."),
    ("home", "kitchen", "Grandmother's bread: 500 g of flour, yeast, and a night in the cold."),
    ("work", "auth", "Users were logged out because the refresh token expired before the session, see AUTH-4127."),
    ("work", "deploy", "Release rel-2026-05-17-b was rolled back after the migration locked the invoices table."),
    ("work", "data", "We chose PostgreSQL over MongoDB since reports need joins and transactions."),
)


def texts(result: object) -> list[str]:
    return [hit.drawer.content for hit in result.hits]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def notes(each_store: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace with the notes in it."""
    return filled(tmp_path_factory.mktemp("notes"))


def filled(directory: Path) -> Path:
    """A new palace with the notes in it."""
    with opened(directory) as app:
        for wing, room, content in NOTES:
            app.palace.add_drawer(wing, room, content, source_file=f"{room}.md")
        assert app.indexer.wait_until_idle(30)
    return directory


@pytest.mark.parametrize(
    ("query", "room"),
    [
        ("where do we grow vegetables?", "garden"),
        ("why do people get signed out?", "auth"),
        ("which relational store was picked", "data"),
        ("AUTH-4127", "auth"),
        ("what happened to rel-2026-05-17-b?", "deploy"),
    ],
)
def test_meaning_and_exact_words_both_find(notes: Path, query: str, room: str) -> None:
    with opened(notes) as app:
        result = app.palace.search(query)
        assert result.hits[0].drawer.room == room
        assert result.degraded is None
        assert result.pending == 0


def test_filters_restrict_and_scores_explain(notes: Path) -> None:
    with opened(notes) as app:
        search = app.palace.search
        assert {hit.drawer.wing for hit in search("bread and tokens", wing="HOME").hits} == {"home"}
        assert [hit.drawer.room for hit in search("anything", room="auth").hits] == ["auth"]
        assert [hit.drawer.room for hit in search("anything", source_file="data.md").hits] == ["data"]
        assert not search("tomatoes", wing="nowhere").hits
        assert not search("tomatoes", before="2020-01-01").hits
        hit = search("tomatoes in the bed", limit=1).hits[0]
        assert hit.semantic is not None
        assert hit.lexical is not None
        assert 0 < hit.semantic <= 1.001
        (explained,) = search("tomatoes in the bed", limit=1, explain=True).hits
        assert explained.explanation is not None
        assert explained.score == hit.score == pytest.approx(sum(explained.explanation.values()))
        assert explained.explanation["words"] == pytest.approx(0.2 * hit.lexical**2)
        assert explained.explanation["meaning"] == pytest.approx(0.35 * hit.semantic)
        assert 0 < explained.explanation["match"] < 0.46


def test_a_text_is_found_by_meaning_the_moment_it_is_acknowledged(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        for number, (wing, room, content) in enumerate(NOTES):
            app.palace.add_drawer(wing, room, content)
            assert (
                app.palace.search("vegetables from our own soil", mode=SearchMode.SEMANTIC).hits[0].drawer.room
                == "garden"
            )
            assert len(app.palace.search("a", mode=SearchMode.SEMANTIC, limit=50).hits) == number + 1


def computed(app: App) -> int:
    """How many texts the model has read."""
    statistics = app.embedder.statistics().embedder
    assert statistics is not None
    return statistics.texts


@contextmanager
def unindexed(directory: Path, drawers: int) -> Iterator[App]:
    """A palace with the model, and with drawers that nobody embeds."""
    with opened(directory, started=False) as app:
        app.embedder.start()
        app.embedder.wait()
        for number in range(drawers):
            app.palace.add_drawer("w", "r", f"note {number}")
        yield app


def test_the_newest_is_found_by_meaning_however_much_waits(tmp_path: Path) -> None:
    with unindexed(tmp_path, 10 * NEWEST) as app:
        app.palace.add_drawer(*NOTES[0])
        for number in range(NEWEST):
            app.palace.add_drawer("other", "r", f"later note {number}")
        for wing in (None, NOTES[0][0]):
            if wing is None:
                app.palace.add_drawer(*NOTES[0][:2], "Peas and beans grow behind the shed.")
            hits = app.palace.search("vegetables from our own soil", mode=SearchMode.SEMANTIC, wing=wing).hits
            assert hits[0].drawer.room == NOTES[0][1]


@pytest.mark.parametrize("waiting", [1, NEWEST])
def test_what_waits_is_found_by_meaning_one_and_all(tmp_path: Path, waiting: int) -> None:
    with unindexed(tmp_path, waiting) as app:
        result = app.palace.search("of somebody else", mode=SearchMode.SEMANTIC, limit=50)
        assert (len(result.hits), result.pending) == (waiting, waiting)


def test_what_shares_words_with_the_question_is_weighed_by_meaning_too(tmp_path: Path) -> None:
    with unindexed(tmp_path, 0) as app:
        app.palace.add_drawer("w", "r", "The heron of the northern lock eats carp.")
        for number in range(5 * NEWEST):
            app.palace.add_drawer("w", "r", f"note {number}")
        hit = app.palace.search("which heron eats carp?").hits[0]
        assert "heron" in hit.drawer.content
        assert hit.semantic is not None


def test_a_search_pays_for_few_of_a_flood(tmp_path: Path) -> None:
    with unindexed(tmp_path, 4 * NEWEST) as app:
        before = computed(app)
        app.palace.search("of somebody else")
        assert computed(app) - before == 1 + FLOOD_SHARE
        app.palace.search("of somebody else")
        assert computed(app) - before <= 1 + NEWEST + FLOOD_SHARE
        for number in range(2 * NEWEST):
            app.palace.search(f"of number {number}")
        with ThreadPoolExecutor() as threads:
            before = computed(app)
            list(threads.map(app.palace.search, ["of the same"] * 8))
        assert computed(app) - before <= 8 + FLOOD_SHARE


def test_what_a_search_has_computed_is_stored_as_it_is(tmp_path: Path) -> None:
    with unindexed(tmp_path, 4) as app:
        app.palace.search("of somebody else")
        before = computed(app)
        assert app.chunk_embedder.embed_pending(10, Priority.INTERACTIVE, Deadline()) == 4
        assert computed(app) == before
        with app.database.read() as connection:
            stored = connection.execute("SELECT embedding FROM vectors ORDER BY chunk").fetchall()
        expected = app.embedder.get().embed([f"note {number}" for number in range(4)])
        assert [row[0] for row in stored] == [vector.tobytes() for vector in expected]


def test_a_search_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    with stuck_writer(tmp_path, 4) as app:
        result = app.palace.search("of somebody else", mode=SearchMode.SEMANTIC)
        assert (len(result.hits), result.degraded, result.pending) == (4, None, 4)


@contextmanager
def stuck_writer(directory: Path, drawers: int) -> Iterator[App]:
    """A palace with drawers that have no vectors yet, in which nothing is written."""
    entered, leave = threading.Event(), threading.Event()

    def linger(_transaction: object) -> None:
        entered.set()
        leave.wait()

    with unindexed(directory, drawers) as app:
        app.writer.submit(linger, Deadline())
        entered.wait()
        try:
            yield app
        finally:
            leave.set()


def test_without_the_model_words_answer_and_the_answer_says_so(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.add_drawer(*NOTES[0])
        result = app.palace.search("tomatoes behind the shed")
        assert texts(result) == [NOTES[0][2]]
        assert result.degraded is not None
        assert "words only" in result.degraded
        assert result.pending == 1
        with pytest.raises(EmbedderUnavailable):
            app.palace.search("tomatoes", mode=SearchMode.SEMANTIC)
        assert app.palace.search("tomatoes", mode=SearchMode.KEYWORD).degraded is None


def test_vectors_of_another_model_are_never_mixed_in(tmp_path: Path) -> None:
    with opened(filled(tmp_path), started=False) as app:
        with app.database.read() as connection:
            stored = app.stores.drawers.model_stamp(connection)
        assert stored is not None

        def pretend(tx: object) -> None:
            tx.connection.execute("UPDATE model SET name = 'another model'")  # type: ignore[attr-defined]

        app.writer.write(pretend, Deadline())
        app.embedder.start()
        assert app.embedder.wait(30)
        result = app.palace.search("tomatoes behind the shed")
        assert texts(result)[0] == NOTES[0][2]
        assert result.hits[0].semantic is None
        assert "reindex" in str(result.degraded)


def test_max_tokens_bounds_the_passages_together(notes: Path) -> None:
    with opened(notes) as app:
        whole = app.palace.search("release invoices tokens bread", limit=5)
        cut = app.palace.search("release invoices tokens bread", limit=5, max_tokens=40)
        tiny = app.palace.search("release invoices tokens bread", limit=5, max_tokens=16)
    assert not whole.truncated
    assert cut.truncated
    assert 0 < len(cut.hits) < len(whole.hits)
    assert sum(estimate_tokens(hit.passage) for hit in cut.hits) <= 40
    assert len(tiny.hits) == 1
    assert tiny.hits[0].passage
    assert estimate_tokens(tiny.hits[0].passage) <= 16


def test_a_long_drawer_answers_with_its_best_passage(tmp_path: Path) -> None:
    filler = "\n\n".join(
        f"Paragraph {number} speaks of weather, traffic and the price of paper." for number in range(80)
    )
    secret = "The spare key of the boat house lies under the third flower pot."
    with opened(tmp_path) as app:
        app.palace.add_drawer("w", "r", f"{filler}\n\n{secret}\n\n{filler} end")
        assert app.indexer.wait_until_idle(30)
        hit = app.palace.search("where is the key to the boat house?").hits[0]
    assert secret in hit.passage
    assert len(hit.passage) < 1500


def test_duplicates_exact_normalized_and_similar(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        add, check = app.palace.add_drawer, app.palace.check_duplicate
        exact = add("w", "r", "The nightly backup runs at two o'clock.").drawer_id
        loose = add("w", "r", "the nightly  BACKUP runs at two o'clock.").drawer_id
        similar = add("w", "r", "The nightly backup is run at two o'clock.").drawer_id
        add("w", "r", "Bananas are yellow.")
        matches = check("The nightly backup runs at two o'clock.").matches
        assert [(match.drawer.drawer_id, match.kind) for match in matches][:2] == [
            (exact, "exact"),
            (loose, "normalized"),
        ]
        assert (similar, "similar") in [(match.drawer.drawer_id, match.kind) for match in matches]
        assert len(matches) == 3
        assert not check("Something never heard of before, entirely.").matches


def test_every_rare_identifier_is_found_among_many_alike(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        marks = {
            f"zq{number:05d}x": f"Ticket zq{number:05d}x: the queue worker stalled during deploy {number % 7}."
            for number in range(300)
        }
        app.palace.checkpoint([{"wing": "w", "room": "r", "content": content} for content in marks.values()])
        missed = [
            mark
            for mark in marks
            if mark not in json.dumps(texts(app.palace.search(f"what was {mark} about the queue worker", limit=5)))
        ]
    assert not missed


def test_words_decide_where_the_model_cannot_read(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        palace = app.palace
        palace.add_drawer("notes", "chinese", "我们把数据库搬到了新的服务器。")
        palace.add_drawer("notes", "thai", "เราตัดสินใจย้ายฐานข้อมูล")
        palace.add_drawer("notes", "emoji", "🎉")
        assert app.indexer.wait_until_idle(30)
        for query, room in (("数据库", "chinese"), ("数据", "chinese"), ("ฐานข้อมูล", "thai")):
            result = palace.search(query)
            assert [hit.drawer.room for hit in result.hits] == [room]
            assert str(result.degraded).startswith("words only")
        with pytest.raises(InvalidArgument, match="by meaning") as refused:
            palace.search("数据库", mode=SearchMode.SEMANTIC)
        assert refused.value.argument == "query"


def test_texts_that_the_model_cannot_read_are_no_duplicates(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.palace.add_drawer("notes", "thai", "แมวนอนอยู่ข้างหน้าต่าง")
        app.palace.add_drawer("notes", "emoji", "🎉")
        assert app.indexer.wait_until_idle(30)
        for other in ("เราตัดสินใจย้ายฐานข้อมูล", "🚀"):
            assert not app.palace.check_duplicate(other).matches
        assert [match.kind for match in app.palace.check_duplicate("🎉").matches] == ["exact"]


@pytest.mark.parametrize("mode", [SearchMode.HYBRID, SearchMode.KEYWORD])
def test_names_are_found_by_their_parts_their_symbols_and_their_beginning(tmp_path: Path, mode: SearchMode) -> None:
    written = {
        "the LampOilStore loses a barrel": ["lamp oil store", "LampOilStore", "lamp_oil_store"],
        "we teach C++ here": ["C++", "who teaches C++?"],
        "we teach C# here": ["C#", "who teaches C#?"],
        "we teach C here": ["C", "who teaches C?"],
        "never git commit --no-verify again": ["--no-verify"],
        "it returns -> at the end": ["->", "what does -> mean here"],
        "the crab 🦀 is back": ["🦀"],
        "whatever ¯\\_(ツ)_/¯ happens": ["¯\\_(ツ)_/¯"],
        "then, so be it ;) she said": [";)"],
        "fixed in 5b1f0c9ae27d4413b0a86f2d90c1e57f3a4b8d62": ["5b1f0c9", "what was fixed in 5b1f0c9ae2?"],
        "see 0dd5ca7 for the teaching": ["0dd5ca7ff91b2e3d4c5b6a798897a6b5c4d3e2f1"],
        "зелёный маяк": ["зеленый"],
    }
    with opened(tmp_path) as app:
        app.palace.checkpoint([{"wing": "w", "room": "r", "content": content} for content in written])
        assert app.indexer.wait_until_idle(30)
        for content, queries in written.items():
            for query in queries:
                assert texts(app.palace.search(query, mode=mode))[:1] == [content], query


def test_symbols_that_are_no_words_are_looked_for_for_a_while(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        for n in range(5):
            app.palace.add_drawer("w", "r", f"number {n} ;-)")
        with app.database.read() as connection:
            every, some = (find_verbatim(connection, ";-)", 9, DrawerFilter(), seconds) for seconds in (60.0, -1.0))
        assert (len(every[0]), every[1]) == (5, True)
        assert (len(some[0]), some[1]) == (1, False)
        result = app.palace.search(";-)", mode=SearchMode.KEYWORD, wing="w")
        assert len(result.hits) == 5
        assert app.palace.search(";-(", mode=SearchMode.KEYWORD).hits == []


def test_one_long_file_does_not_crowd_out_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        log = [
            f"The ferry log, page {n}: the ferry to the island left the harbour late because of fog." for n in range(70)
        ]
        notes = ["Fog held the ferry in the harbour.", "The ferry to the island leaves at nine.", "Late ferry again."]
        app.palace.checkpoint(
            [{"wing": "w", "room": "r", "content": page, "source_file": "/logs/ferry.md"} for page in log]
            + [{"wing": "w", "room": "r", "content": note, "source_file": f"{n}.md"} for n, note in enumerate(notes)]
        )
        assert app.indexer.wait_until_idle(30)
        for mode in SearchMode:
            found = texts(
                app.palace.search("why did the ferry to the island leave the harbour late?", limit=8, mode=mode)
            )
            assert len(found) == 8
            assert set(notes) <= set(found[:6])
        only = app.palace.search("ferry", limit=8, source_file="/logs/ferry.md").hits
        assert len(only) == 8


def test_a_long_question_is_taken_and_its_rare_words_decide(tmp_path: Path) -> None:
    frames = "".join(
        f'  File "/usr/lib/python3/site-packages/server/layer{n}.py", line {n}, in call_next\n'
        f"    return await handler{n}()\n"
        for n in range(500)
    )
    with opened(tmp_path) as app:
        wanted = "Decision: berth_the_boat must hold the lock of the quay."
        app.palace.checkpoint(
            [{"wing": "w", "room": "r", "content": f"The server awaits the next call, line {n}."} for n in range(40)]
            + [{"wing": "w", "room": "r", "content": wanted}]
        )
        assert app.indexer.wait_until_idle(30)
        for query in (f"{frames}RuntimeError in berth_the_boat", f"Why does berth_the_boat fail?\n{frames}"):
            assert 32 * 1024 < len(query) < 64 * 1024
            for mode in (SearchMode.HYBRID, SearchMode.KEYWORD):
                assert texts(app.palace.search(query, mode=mode))[0] == wanted


def test_a_damaged_index_of_words_is_said_and_repaired(tmp_path: Path) -> None:
    with opened(filled(tmp_path / "palace")) as app:
        app.database.write(lambda tx: tx.connection.execute("DELETE FROM lexicon").rowcount, Deadline())
        result = app.palace.search("where do we grow vegetables?")
        assert result.hits[0].drawer.room == "garden"
        assert "words is damaged" in str(result.degraded)
        with pytest.raises(PalaceCorrupt, match="words"):
            app.palace.search("tomatoes", mode=SearchMode.KEYWORD)
    if isinstance(app.database, Database):
        with closing(sqlite3.connect(tmp_path / "palace" / "palace.db", isolation_level=None)) as connection:
            connection.execute("UPDATE passages_data SET block = zeroblob(3)")
    with opened(tmp_path / "palace") as app:
        assert "words is damaged" in str(app.palace.search("tomatoes").degraded)
    manage.rebuild(at(tmp_path / "palace"))
    with opened(tmp_path / "palace") as app:
        assert app.palace.search("tomatoes").degraded is None
        assert [hit.drawer.room for hit in app.palace.search("tomatoes", mode=SearchMode.KEYWORD).hits] == ["garden"]


def test_tokens_are_matched_only_where_all_candidates_have_them(tmp_path: Path) -> None:
    def drop_one(tx: Transaction) -> None:
        tx.connection.execute("DELETE FROM token_vectors WHERE chunk = (SELECT min(chunk) FROM token_vectors)")

    def parts(app: App) -> list[set[str]]:
        hits = app.palace.search("why do people get signed out?", explain=True).hits
        assert hits[0].drawer.room == "auth"
        return [{name for name, part in (hit.explanation or {}).items() if part} for hit in hits]

    with opened(filled(tmp_path), started=False) as app:
        app.embedder.start()
        assert app.embedder.wait()
        assert all("match" in each for each in parts(app))
        app.database.write(drop_one, Deadline())
        assert not any("match" in each for each in parts(app))
