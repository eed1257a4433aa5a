"""The order of hits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.model import SearchMode
from mempalace_mcp.palace.ranking import MOST_OF_ONE_FILE, Candidate, Ranked, Signals, rank, spread

HYBRID = SearchMode.HYBRID

candidates = st.builds(
    Candidate,
    chunk=st.integers(1, 50),
    drawer=st.integers(1, 10),
    when=st.integers(0, 5),
    bm25=st.floats(0, 40),
    cosine=st.none() | st.floats(-1, 1),
    holds_identifier=st.booleans(),
)


def drawers(*pool: Candidate, mode: SearchMode = HYBRID) -> list[int]:
    return [ranked.drawer for ranked in rank(pool, mode)]


def test_words_and_meaning_weigh_the_same() -> None:
    (ranked,) = rank([Candidate(1, 1, 0, bm25=16.0, cosine=0.5)], HYBRID)
    assert ranked.score == 0.75
    assert (ranked.lexical, ranked.semantic) == (1.0, 0.5)


def test_tokens_words_and_meaning_make_one_score() -> None:
    (ranked,) = rank([Candidate(1, 1, 0, bm25=16.0, cosine=0.5, match=0.4)], HYBRID)
    assert ranked.score == pytest.approx(0.45 * 0.4 + 0.2 + 0.35 * 0.5)
    (all_there,) = rank([Candidate(1, 1, 0, bm25=16.0, cosine=1.0, match=1.0)], HYBRID)
    assert all_there.score == pytest.approx(1.0)


def test_half_of_the_words_are_worth_a_quarter() -> None:
    distractor = Candidate(1, 1, 0, bm25=5.0, cosine=0.2)
    in_other_words = Candidate(2, 2, 0, bm25=0.0, cosine=0.5)
    assert [each.drawer for each in rank([distractor, in_other_words], HYBRID, possible=10.0)] == [2, 1]


def test_what_is_said_around_counts_for_a_third() -> None:
    alone = Candidate(1, 1, 0, bm25=0.0, cosine=0.4)
    (ranked,) = rank([replace(alone, part=Signals(10.0, 0.4))], HYBRID, possible=10.0)
    assert ranked.score == pytest.approx((2 * 0.2 + 0.7) / 3)
    assert (ranked.lexical, ranked.semantic) == (0.0, 0.4)
    neighbour = Candidate(2, 2, 0, bm25=0.0, cosine=0.4, part=Signals(10.0, 0.4))
    assert drawers(alone, neighbour) == [2, 1]
    assert drawers(alone, neighbour, mode=SearchMode.KEYWORD) == [1, 2]


def test_words_count_as_a_share_of_what_the_question_could_earn() -> None:
    pool = [Candidate(1, 1, 0, bm25=2.0, cosine=0.0), Candidate(2, 2, 0, bm25=0.0, cosine=0.3)]
    weak, meant = rank(pool, HYBRID, possible=10.0)[::-1]
    assert (weak.lexical, meant.lexical) == (0.2, 0.0)
    assert [ranked.drawer for ranked in rank(pool, HYBRID, possible=2.5)] == [1, 2]


def test_what_earns_more_than_the_question_promised_is_the_measure() -> None:
    best, half = rank([Candidate(1, 1, 0, 8.0, 0.0), Candidate(2, 2, 0, 4.0, 0.0)], HYBRID, possible=5.0)
    assert (best.lexical, half.lexical) == (1.0, 0.5)


def test_without_words_that_could_earn_anything_nothing_is_divided_by_zero() -> None:
    (ranked,) = rank([Candidate(1, 1, 0, bm25=0.0, cosine=0.5)], HYBRID)
    assert ranked.lexical == 0.0


def test_a_drawer_counts_by_its_best_chunk() -> None:
    pool = [Candidate(1, 7, 0, 0.0, 0.1), Candidate(2, 7, 0, 0.0, 0.9), Candidate(3, 8, 0, 0.0, 0.5)]
    assert [(ranked.drawer, ranked.chunk) for ranked in rank(pool, HYBRID)] == [(7, 2), (8, 3)]


def test_a_hit_without_a_vector_yet_is_not_sunk() -> None:
    pending = Candidate(1, 1, 0, bm25=12.0, cosine=None)
    embedded = Candidate(2, 2, 0, bm25=3.0, cosine=0.4)
    assert drawers(pending, embedded) == [1, 2]


def test_a_rare_identifier_leads_whatever_the_meaning_says() -> None:
    holder = Candidate(1, 1, 0, bm25=2.0, cosine=0.0, holds_identifier=True)
    similar = Candidate(2, 2, 0, bm25=30.0, cosine=0.95)
    assert drawers(holder, similar) == [1, 2]
    assert drawers(holder, similar, mode=SearchMode.SEMANTIC) == [2, 1]


def test_newer_comes_first_among_equals() -> None:
    assert drawers(Candidate(1, 1, 100, 1.0, 0.5), Candidate(2, 2, 200, 1.0, 0.5)) == [2, 1]


def test_each_mode_asks_its_own_side() -> None:
    wordy, meant = Candidate(1, 1, 0, bm25=9.0, cosine=0.1), Candidate(2, 2, 0, bm25=0.5, cosine=0.9)
    assert drawers(wordy, meant, mode=SearchMode.KEYWORD) == [1, 2]
    assert drawers(wordy, meant, mode=SearchMode.SEMANTIC) == [2, 1]


@given(st.lists(candidates, unique_by=lambda each: each.chunk), st.sampled_from(SearchMode))
def test_each_drawer_once_best_first_whatever_the_order_of_arrival(pool: list[Candidate], mode: SearchMode) -> None:
    ranked = rank(pool, mode)
    assert sorted(each.drawer for each in ranked) == sorted({each.drawer for each in pool})
    assert all(earlier.score >= later.score - 1e-6 for earlier, later in pairwise(ranked))
    assert rank(reversed(pool), mode) == ranked


def test_who_holds_an_identifier_longer_or_shorter_comes_after_who_holds_it_and_before_the_rest() -> None:
    whole = Candidate(1, 1, 0, bm25=2.0, cosine=0.0, holds_identifier=True)
    kin = Candidate(2, 2, 0, bm25=3.0, cosine=0.9, holds_kin=True)
    similar = Candidate(3, 3, 0, bm25=30.0, cosine=0.95)
    assert drawers(whole, kin, similar) == [1, 2, 3]
    assert drawers(whole, kin, similar, mode=SearchMode.KEYWORD) == [1, 2, 3]


def ranked(*scores: float) -> list[Ranked]:
    return [Ranked(chunk, chunk, 0, score, 0.0, None) for chunk, score in enumerate(scores, 1)]


def test_others_come_before_the_fourth_hit_of_one_file() -> None:
    hits = ranked(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    sources = {1: "a", 2: "a", 3: None, 4: "a", 5: "a", 6: "a", 7: "b", 8: None, 9: None}
    mixed, settled = spread(hits, sources)
    assert [hit.chunk for hit in mixed] == [1, 2, 3, 4, 7, 8, 5, 6, 9]
    assert settled == len(hits), "the last one shows that what follows displaces nothing"
    mixed, settled = spread(hits[:8], sources)
    assert [hit.chunk for hit in mixed] == [1, 2, 3, 4, 7, 8, 5, 6]
    assert settled == 6
    assert MOST_OF_ONE_FILE == 3


def test_what_does_not_answer_displaces_nothing() -> None:
    hits = ranked(0.9, 0.9, 0.9, 0.9, 0.2)
    mixed, settled = spread(hits, dict.fromkeys(range(1, 5), "a") | {5: "b"})
    assert (mixed, settled) == (hits, 5)


def test_only_what_is_nearly_as_good_displaces_a_turn() -> None:
    hits = [replace(each, is_turn=True) for each in ranked(0.9, 0.9, 0.9, 0.9, 0.85, 0.8, 0.7, 0.5)]
    mixed, _ = spread(hits, dict.fromkeys(range(1, 5), "a") | {5: "b", 6: "c", 7: "b", 8: "d"})
    assert [hit.chunk for hit in mixed] == [1, 2, 3, 5, 4, 6, 7, 8]


def test_a_conversation_that_has_most_of_the_candidates_makes_room_like_a_file() -> None:
    hits = [replace(each, is_turn=True) for each in ranked(0.9, 0.9, 0.9, 0.9, 0.9, 0.4)]
    mixed, _ = spread(hits, dict.fromkeys(range(1, 6), "a") | {6: "b"})
    assert [hit.chunk for hit in mixed] == [1, 2, 3, 6, 4, 5]


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from([None, "a", "b", "c"])), max_size=30))
def test_spreading_loses_no_hit_and_keeps_the_best_first(pool: list[tuple[float, str | None]]) -> None:
    pool.sort(key=lambda each: -each[0])
    hits = ranked(*(score for score, _ in pool))
    mixed, _ = spread(hits, {hit.chunk: source for hit, (_, source) in zip(hits, pool, strict=True)})
    assert sorted(hit.chunk for hit in mixed) == [hit.chunk for hit in hits]
    assert mixed[:1] == hits[:1]


def test_a_chunk_that_is_not_embedded_yet_counts_as_a_good_candidate_of_its_words() -> None:
    known = [Candidate(number, number, 0, bm25=2.0, cosine=number / 10, match=number / 10) for number in range(1, 6)]
    pending = Candidate(9, 9, 0, bm25=2.0, cosine=None)
    ranked = {each.drawer: each for each in rank([*known, pending], HYBRID, possible=10.0)}
    assert ranked[9].score == ranked[4].score
    assert ranked[9].semantic is None
    better = replace(pending, bm25=8.0)
    assert drawers(*known, better)[0] == 9
    assert rank([pending], HYBRID, possible=10.0)[0].score == pytest.approx(0.2)
