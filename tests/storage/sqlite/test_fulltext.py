"""FTS5's table of words: its scores and totals, the tokens kept beside it, and what compacting takes out of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.storage.tokenizer import TOKENIZER
from tests.storage.drawer_support import EVERY, Cabinet, cabinet

pytestmark = pytest.mark.long


@pytest.fixture
def palace() -> Iterator[Cabinet]:
    with cabinet() as palace:
        yield palace


def test_the_tokenizer_is_the_table_s(palace: Cabinet) -> None:
    assert TOKENIZER in palace.row("SELECT sql FROM sqlite_master WHERE name = 'passages'")[0]


TEXTS = st.lists(
    st.lists(
        st.sampled_from(["red", "wine", "glass", "PROJ-12", "東京都", "猫", "猫耳", "黒猫がいる", "running"]),
        min_size=1,
        max_size=12,
    ),
    min_size=2,
    max_size=12,
)
ASKED = ["red wine", '"red wine"', "PROJ-12", "proj glass run", "東京都", "東京 猫", "猫", '"red 猫"', '"wine 猫" 東']


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(ASKED))
def test_scores_are_those_of_fts5(texts: list[list[str]], query: str) -> None:
    with cabinet() as palace:
        for words in texts:
            palace.file(" ".join(words))
        connection = palace.connection
        hits = {hit.chunk: hit.bm25 for hit in palace.lexicon.search(connection, query, 100, EVERY)}
        every = [row[0] for row in connection.execute("SELECT id FROM chunks")]
        for tokenized in (False, True):
            if tokenized:
                palace.tokenize()
            assert bool(tokens(palace)) == tokenized
            scores = palace.lexicon.scores(connection, query, [*every, 10**9])
            assert {chunk: score for chunk, score in scores.items() if score} == pytest.approx(hits)
            assert scores.keys() == set(every)


def tokens(palace: Cabinet) -> dict[int, bytes]:
    """The tokens kept, by chunk."""
    return dict(palace.connection.execute("SELECT chunk, tokens FROM passage_tokens"))


def test_filing_and_changing_leave_no_tokens(palace: Cabinet) -> None:
    filed = palace.file("red wine")
    assert tokens(palace) == {}
    palace.tokenize()
    assert tokens(palace).keys() == {1}
    palace.update(filed.drawer_id, occurred_at=10)
    assert tokens(palace) == {}, "the words of the same chunk have changed"
    palace.tokenize()
    palace.update(filed.drawer_id, content="a glass")
    assert tokens(palace) == {}


def test_passages_without_tokens_score_the_same(palace: Cabinet) -> None:
    filed = [palace.file(text) for text in ("red wine in red glasses", "a glass", "wine, red", "nothing of the kind")]
    every = list(range(1, len(filed) + 1))

    def scores() -> list[dict[int, float]]:
        return [palace.lexicon.scores(palace.connection, query, every) for query in ("red wine", '"red wine" glass')]

    without = scores()
    palace.tokenize()
    assert scores() == without
    palace.connection.execute("DELETE FROM passage_tokens WHERE chunk % 2")
    assert scores() == without


def test_tokens_of_texts_that_changed_meanwhile_are_not_kept(palace: Cabinet) -> None:
    kept, dated, gone = (palace.file(text).drawer_id for text in ("red wine", "red glass", "red secret"))
    palace.file("red herring")
    before = dict(palace.words.texts_after(palace.connection, 0, 3))
    read = {chunk: text for chunk, text in before.items() if text is not None}
    assert read == {1: "red wine", 2: "red glass", 3: "red secret"}
    palace.update(dated, occurred_at=clock.parse("2024-06-09", "at"))
    palace.delete(gone)
    palace.purge()
    for _ in range(2):
        palace.write(lambda tx: palace.words.keep_tokens(tx, read, [text.split() for text in read.values()]))
    assert tokens(palace).keys() == {1}
    assert palace.words.texts_after(palace.connection, 0, 2) == [
        (1, None),
        (2, "9 June 2024 Sunday 2024-06-09\nred glass"),
    ]
    scores = palace.lexicon.scores(palace.connection, "june", [1, 2, 3])
    assert scores[2] > scores[1] == 0.0
    assert palace.found("wine") == [kept]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"), min_size=1, max_size=60),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_the_totals_are_those_of_fts5(texts: list[str], data: st.DataObject) -> None:
    with cabinet() as palace:
        ids = palace.file_all(texts)
        gone = data.draw(st.sets(st.sampled_from(ids)))
        palace.delete(*gone)
        palace.purge()
        kept = palace.words.collection(palace.connection)
        palace.write(palace.words.rebuild)
        counted = palace.words.collection(palace.connection)
        assert kept.rows == counted.rows == len({*ids}) - len(gone)
        assert kept.tokens == pytest.approx(counted.tokens, abs=2), "but for letters that SQLite does not know yet"


def test_compacting_takes_removed_words_out_of_the_index(palace: Cabinet) -> None:
    palace.file_all([f"word{n}" for n in range(50)])
    gone = palace.file("unwanted").drawer_id

    def index() -> bytes:
        return b"".join(row[0] for row in palace.connection.execute("SELECT block FROM passages_data"))

    palace.tokenize()
    palace.delete(gone)
    assert b"unwant" in index()
    palace.purge()
    assert b"unwant" not in index()
    assert tokens(palace).keys() == {row[0] for row in palace.connection.execute("SELECT rowid FROM passages")}
