"""Search by words in a large table: in part, but scored in full, and the rare word always comes first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.storage import lexical
from mempalace_mcp.storage.query_terms import read_query
from tests.storage.drawer_support import EVERY, Cabinet, cabinet

pytestmark = pytest.mark.long

LARGE = lexical.SMALL_TABLE + 5_000
VOCABULARY = [f"{first}{second}ning" for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u")]
WORDS_PER_TEXT = 18


@pytest.fixture(scope="module")
def large() -> Iterator[Cabinet]:
    """Texts of common words, each of which a fifth of them hold, with one unique marker each."""
    chooser = random.Random(7)
    with cabinet() as palace:
        texts = [f"{' '.join(chooser.choices(VOCABULARY, k=WORDS_PER_TEXT))} zq{n:06d}x" for n in range(LARGE)]
        palace.file_all(texts[: LARGE // 2], room="Large")
        palace.file_all(texts[LARGE // 2 : -500], room="Other")
        palace.file_all(texts[-500:-40], room="Small")
        palace.file_all(texts[-40:], room="Tiny")
        palace.tokenize()
        yield palace


def test_a_large_table_always_yields_the_rare_word_first(large: Cabinet) -> None:
    chooser = random.Random(3)
    for _ in range(30):
        number = chooser.randrange(LARGE)
        query = " ".join([*chooser.sample(VOCABULARY, 4), f"zq{number:06d}x"])
        best = large.lexicon.search(large.connection, query, 5, EVERY)[0]
        content = "SELECT content FROM drawers d JOIN chunks c ON c.drawer = d.id WHERE c.id = ?"
        assert f"zq{number:06d}x" in large.row(content, best.chunk)[0]
        assert large.lexicon.weigh(large.connection, query, 5, EVERY).holders.whole == {best.chunk}


def _exactly(palace: Cabinet, query: str, limit: int, filter: DrawerFilter) -> dict[int, float]:
    """The hits of a search that scores every row."""
    found = palace.words.matching(palace.connection, filter, weigh=False).best(
        dict.fromkeys(read_query(query), 0), limit
    )
    return dict(found)


@pytest.mark.parametrize("room", [None, "other", "small", "tiny"])
@pytest.mark.parametrize("words", [1, 2, 5, 12])
def test_a_large_table_is_searched_in_part_and_scored_in_full(large: Cabinet, words: int, room: str | None) -> None:
    chosen = DrawerFilter(room=room)
    before = large.lexicon.statistics()
    chooser = random.Random(words)
    gained, best = 0.0, 0.0
    for _ in range(5):
        query = " ".join(chooser.sample(VOCABULARY, words))
        hits = large.lexicon.search(large.connection, query, 20, chosen)
        exact = _exactly(large, query, LARGE, chosen)
        assert len(hits) == min(20, len(exact))
        for hit in hits:
            assert hit.bm25 == pytest.approx(exact[hit.chunk])
        assert [hit.bm25 for hit in hits] == sorted((hit.bm25 for hit in hits), reverse=True)
        gained += sum(hit.bm25 for hit in hits)
        best += sum(sorted(exact.values(), reverse=True)[:20])
    after = large.lexicon.statistics()
    assert after.searches == before.searches + 5
    assert gained >= 0.85 * best
    if words > 2 and room is None:
        assert after.partial_searches == before.partial_searches + 5
    if room == "tiny":
        assert gained == pytest.approx(best), "few chunks are scored one and all"


def test_a_large_table_of_nothing_but_words_that_all_texts_hold() -> None:
    with cabinet() as palace:
        palace.file_all([f"always ever n{n}" for n in range(LARGE)])
        hits = palace.lexicon.search(palace.connection, "always ever", 10, EVERY)
        assert len(hits) == 10
        newest = palace.row("SELECT max(id) FROM chunks")[0]
        assert hits[0].chunk == newest, "newer first among equals"


def test_common_words_that_never_meet_are_found_one_by_one() -> None:
    with cabinet() as palace:
        palace.file_all([f"{word} n{n}" for n in range(LARGE // 3) for word in ("harbour", "meadow", "quarry")])
        hits = palace.lexicon.search(palace.connection, "harbour meadow quarry", 10, EVERY)
        assert len(hits) == 10
        assert palace.lexicon.statistics().partial_searches == 1


def test_a_word_that_appears_after_it_was_asked_for_is_found_at_once(large: Cabinet) -> None:
    query = "kumquat " + " ".join(VOCABULARY[:4])
    connection = large.connection
    large.lexicon.search(connection, query, 5, EVERY)
    filed = large.file("a kumquat")
    assert large.found(query, limit=5)[0] == filed.drawer_id


def test_the_rarest_words_of_a_long_question_decide(large: Cabinet) -> None:
    filed = large.file("an unmoorable boat lies at the quay")
    chooser = random.Random(5)
    frames = [
        f'File "/usr/lib/{chooser.choice(VOCABULARY)}{n}.py", line {n}, in {chooser.choice(VOCABULARY)}'
        for n in range(900)
    ]
    for question in (" ".join([*frames, "unmoorable"]), " ".join(["unmoorable", *frames])):
        assert len(read_query(question)) > lexical.MAX_TERMS
        assert large.found(question, limit=3)[0] == filed.drawer_id


def test_what_the_lexicon_remembers_is_bounded(large: Cabinet) -> None:
    with closing(lexical.Lexicon(large.words, frequencies=3, queries=2)) as small:
        for word in VOCABULARY[:10]:
            small.search(large.connection, word, 5, EVERY)
        statistics = small.statistics()
    assert (statistics.searches, statistics.frequencies, statistics.frequencies_limit) == (10, 3, 3)
