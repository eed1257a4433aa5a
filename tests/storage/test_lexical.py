"""Search by words: everything that holds a word is found, whatever the query holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.errors import PalaceCorrupt
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage import lexical
from mempalace_mcp.storage import lexical as questions
from mempalace_mcp.storage.query_terms import read_query
from tests.storage.drawer_support import EVERY, Cabinet, cabinet

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]


@pytest.fixture
def palace(each_store: None) -> Iterator[Cabinet]:
    with cabinet() as palace:
        yield palace


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("She was running marathons", "run marathon"),
        ("The café opened", "cafe"),
        ("The cafe\u0301 opened", "CAFÉ"),
        ("Die Straße war leer", "STRASSE"),
        ("see PROJ-1234 for details", "PROJ-1234"),
        ("edit src/auth/token.py first", "token.py"),
        ("the column user_id is null", "user_id"),
        ("released v1.2.3 today", "v1.2.3"),
        ("at 0xDEAD it failed", "0xdead"),
        ("mail nora@example.org", "nora@example.org"),
        ("東京都の天気は晴れです", "天気"),
        ("東京都の天気は晴れです", "東京の天気はどうですか"),
        ("私の黒猫", "猫"),
        ("猫がいる", "猫"),
        ("한국어를 공부했다", "한국어"),
        ("हिन्दी में लिखा", "हिन्दी"),
        ("การค้นหาข้อความ", "ค้นหา"),
        ("они писали письмо", "ПИСЬМО"),
        ("done\U0001f916 at last", "done"),
        ("he said hello there world", '"hello there"'),
        ("to be or not to be", "to be or not to be"),
    ],
)
def test_words_of_many_kinds_are_found(palace: Cabinet, text: str, query: str) -> None:
    filed = palace.file(text)
    palace.file("nothing alike here 花 바다 मछली")
    assert palace.found(query)[:1] == [filed.drawer_id]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("978-0-306-40615-7", "9780306406157"),
        ("+44 (20) 7946-0958", "+442079460958"),
        ("00:1B:63:84:45:E6", "001B638445E6"),
        ("00:1B:63:84:45:E6", "001b.6384.45e6"),
        ("123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"),
        ("1,250,000", "1250000"),
        ("QUAY-2207", "QUAY2207"),
        ("v2.4-17-g9f86d08", "9f86d08"),
        ("O'Malley", "OMalley"),
        ("e-mail", "Email"),
        ("Hawaiʻi", "Hawaii"),
        ("Möwe", "Moewe"),
        ("Đorđe", "Djordje"),
        ("خانه‌ها", "خانه ها"),
        ("iBuoy7ProMax", "iBuoy 7 Pro Max"),
        ("OAuth2Harbour", "oauth2 harbour"),
        ("GitHubMirror", "GitHub mirror"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_word_or_code_is_found_however_it_is_grouped(palace: Cabinet, one: str, other: str, turned: bool) -> None:
    stored, asked = (other, one) if turned else (one, other)
    filed = palace.file(f"Here is {stored} of them")
    palace.file("Here is something else of them")
    assert palace.found(asked) == [filed.drawer_id]


def test_dates_files_and_titles_are_words_of_every_chunk(palace: Cabinet) -> None:
    when = clock.parse("2023-05-08", "at")
    filed = palace.file(
        "Harbour journal\n" + "We walked on. " * 50, size=100, occurred_at=when, source_file="/x/quay-walk.md"
    )
    chunks = palace.row("SELECT count(*) FROM chunks")[0]
    for query in ("8 May 2023", "monday", "2023-05-08", "harbour", "quay-walk.md"):
        assert len(palace.lexicon.search(palace.connection, query, 50, EVERY)) == chunks, query
    palace.update(filed.drawer_id, occurred_at=clock.parse("2024-06-09", "at"))
    assert palace.found("May") == []
    assert palace.found("sunday june") == [filed.drawer_id]


def test_wing_and_room_are_not_words_of_the_text(palace: Cabinet) -> None:
    palace.file("text", wing="Astronomy", room="Telescopes")
    assert palace.found("astronomy telescopes") == []


def test_phrases_ask_for_words_in_their_order(palace: Cabinet) -> None:
    right, wrong = palace.file_all(["the red wine glass", "the wine was red"])
    connection = palace.connection
    for query in ('"red wine"', "red-wine"):
        assert palace.found(query) == [right, wrong]
    assert len(palace.lexicon.weigh(connection, '"red wine"', 50, EVERY).holders.whole) == 1


def test_only_live_matching_drawers_are_hits(palace: Cabinet) -> None:
    kept = palace.file("alpha beta", wing="One", room="A", source_file="x", occurred_at=10).drawer_id
    moved = palace.file("alpha gamma", wing="One", room="B", occurred_at=20).drawer_id
    gone = palace.file("alpha delta", wing="Two", room="A").drawer_id
    palace.delete(gone)
    assert set(palace.found("alpha")) == {kept, moved}
    assert palace.found("alpha", filter=DrawerFilter(wing="one", room="b")) == [moved]
    assert palace.found("alpha", filter=DrawerFilter(room="a")) == [kept]
    assert palace.found("alpha", filter=DrawerFilter(source_file="x")) == [kept]
    assert palace.found("alpha", filter=DrawerFilter(since=11, before=21)) == [moved]
    assert palace.found("alpha", filter=DrawerFilter(wing="nowhere")) == []
    palace.update(moved, content="epsilon")
    assert palace.found("alpha gamma") == [kept]
    assert palace.found("epsilon") == [moved]


def test_a_deleted_majority_does_not_crowd_out_the_living(palace: Cabinet) -> None:
    ids = palace.file_all([f"needle needle needle {n}" for n in range(200)])
    palace.delete(*ids)
    lives = palace.file("one needle among much other straw and hay").drawer_id
    assert palace.found("needle", limit=1) == [lives]


QUERIES = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["NEAR(", "AND", "OR", "NOT", "^", "*", '"', "'", ":", "text:", "-", "(", ")", "{", "日本", "a_b"]
        ),
        max_size=30,
    ).map(" ".join),
)


@settings(max_examples=200, deadline=None)
@given(query=QUERIES)
def test_no_query_is_a_syntax_error(query: str) -> None:
    with cabinet() as palace:
        palace.file("a text: near 日本 and not or a_b")
        connection = palace.connection
        hits = palace.lexicon.search(connection, query, 10, EVERY)
        assert palace.lexicon.scores(connection, query, [1]).get(1, 0.0) == pytest.approx(sum(h.bm25 for h in hits))
        palace.lexicon.weigh(connection, query, 10, EVERY)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80))
def test_a_text_is_found_by_itself(text: str) -> None:
    """Unless the tokenizer of SQLite finds no letters or digits in it."""
    with cabinet() as palace:
        filed = palace.file(text)
        with closing(palace.words.new_tokenizer()) as tokenizer:
            telling = any(tokenizer.stems([term.text for term in read_query(text)]))
        if telling:
            assert palace.found(text) == [filed.drawer_id]


def test_an_identifier_that_many_hold_singles_none_out(palace: Cabinet) -> None:
    palace.file_all([f"PROJ-1 and PROJ-{n}" for n in range(2, questions.RARE + 10)])
    identifiers = palace.lexicon.weigh(palace.connection, "PROJ-1 PROJ-7", 50, EVERY).holders.whole
    assert len(identifiers) == 1
    assert (
        palace.lexicon.weigh(palace.connection, "PROJ-7", 50, DrawerFilter(room="other")).holders.whole == frozenset()
    )


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("5b1f0c9ae27d4413b0a86f2d90c1e57f3a4b8d62", "5b1f0c9"),
        ("5B1F0C9AE27D4413B0A86F2D90C1E57F3A4B8D62", "5b1f0c9ae27d"),
        ("5b1f0c9", "5b1f0c9ae27d4413b0a86f2d90c1e57f3a4b8d62"),
        ("40718835512290347716", "4071883"),
        ("facadebeefedfacefeedbacedeadcafebabedade", "facadeb"),
        ("0d9ced1f-2b3a-4c5d-8e6f-7a8b9c0d1e2f", "0d9ced1"),
        ("0d9ced1f-2b3a-4c5d-8e6f-7a8b9c0d1e2f", "0D9CED1F-2b3a-4"),
        ("https://example.org/quay/commit/5b1f0c9ae27d4413", "5b1f0c9ae2"),
        ("commit:5b1f0c9ae27d4413", "git show 5b1f0c9ae2"),
        ("QUAY-48213", "commit:QUAY-48"),
        ("sha256:5b1f0c9ae27d4413b0a86f2d90c1e57f", "sha256:5b1f0c9ae27d"),
        ("i-0abc48213def", "i-0abc48"),
        ("v2.4-17-g5b1f0c9", "5b1f0c9ae27d4413b0a86f2d90c1e57f3a4b8d62"),
        ("5b1f0c9ae27d4413b0a86f2d90c1e57f3a4b8d62", "v2.4-17-g5b1f0c9"),
    ],
)
def test_identifiers_are_known_by_their_beginning(palace: Cabinet, stored: str, asked: str) -> None:
    palace.file_all([f"the harbour list {n:05d} and {n:07x}ab" for n in range(30)])
    filed = palace.file(f"the harbour list ({stored}) again")
    holders = palace.lexicon.weigh(palace.connection, f"which harbour list {asked}?", 5, EVERY).holders
    rows = palace.drawers.chunk_rows(palace.connection, list(holders.whole | holders.kin), EVERY)
    assert [row.drawer_id for row in rows] == [filed.drawer_id]


def test_who_holds_the_whole_is_told_from_who_holds_more_or_less(palace: Cabinet) -> None:
    palace.file_all(["see 5b1f0c9ae27d", "see 5b1f0c9ae27d4413", "see 5b1f0c9", "see 5b1f0ff"])
    assert palace.lexicon.weigh(palace.connection, "5b1f0c9ae27d", 5, EVERY).holders == questions.Holders(
        frozenset({1}), frozenset({2, 3})
    )


def test_missing_totals_are_damage_and_not_an_empty_answer(palace: Cabinet) -> None:
    palace.file("a lantern")
    palace.connection.execute("DELETE FROM lexicon")
    with pytest.raises(PalaceCorrupt, match="words") as caught:
        palace.found("lantern")
    assert "reindex" in str(caught.value.hint)
    palace.write(palace.words.rebuild)
    assert len(palace.found("lantern")) == 1


def test_an_empty_palace_finds_nothing(palace: Cabinet) -> None:
    assert palace.lexicon.search(palace.connection, "anything", 5, EVERY) == []
    assert palace.lexicon.scores(palace.connection, "anything", [1]) == {}
    assert palace.lexicon.scores(palace.connection, "", [1]) == {}


def test_words_among_chunks_earn_the_same_by_the_index_and_by_tokens(
    palace: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    palace.file_all(["the weir and the weir", "a heron at the weir", "a weir of stone", "a heron of stone", "東京都"])
    chunks = [chunk for (chunk,) in palace.connection.execute("SELECT id FROM chunks WHERE id <= 5 ORDER BY id DESC")]
    palace.file_all(["heron"] * 30)  # common in the palace, rare among the five

    def among(query: str) -> tuple[dict[int, float], float]:
        found = palace.lexicon.weigh_among(palace.connection, query, chunks)
        assert found is not None
        return found.bm25, found.possible

    queries = ("weir", "heron at the weir", "京都 stone", "nothing of it")
    by_index = [among(query) for query in queries]
    monkeypatch.setattr(lexical, "SMALL_TABLE", 0)
    for query, (bm25, possible) in zip(queries, by_index, strict=True):
        by_tokens = among(query)
        assert by_tokens[0] == pytest.approx(bm25)
        assert by_tokens[1] == pytest.approx(possible)
    bm25, _ = by_index[1]
    assert bm25[4] > bm25[3] > 0  # the heron of two tells more than the weir of three
    assert palace.lexicon.weigh_among(palace.connection, "?!", chunks) is None
