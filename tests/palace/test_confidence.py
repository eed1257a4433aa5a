"""How far a score can be trusted."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mempalace_mcp.palace.confidence import WITH_TOKENS, WITHOUT_TOKENS, Scale, confidence_of, scale_of

EACH_SCALE = pytest.mark.parametrize("scale", [WITH_TOKENS, WITHOUT_TOKENS])


@EACH_SCALE
def test_a_higher_score_is_never_trusted_less(scale: Scale) -> None:
    found = [confidence_of(step / 50, scale) for step in range(-50, 170)]
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert all(0 <= each <= 1 for each in found)


@pytest.mark.parametrize(("score", "right"), [(0.35, 0.15), (0.45, 0.3), (0.55, 0.6), (0.65, 0.85)])
def test_confidence_is_what_was_measured(score: float, right: float) -> None:
    assert confidence_of(score) == pytest.approx(right, abs=0.08)


@pytest.mark.parametrize(("score", "right"), [(0.15, 0.17), (0.25, 0.21), (0.35, 0.3), (0.5, 0.5), (0.65, 0.73)])
def test_so_it_is_without_token_vectors(score: float, right: float) -> None:
    scale = scale_of(meaning=True, tokens=False)
    assert confidence_of(score, scale) == pytest.approx(right, abs=0.14)


def test_by_words_alone_the_scale_is_that_of_all_parts() -> None:
    assert scale_of(meaning=False, tokens=False) == scale_of(meaning=True, tokens=True) == WITH_TOKENS


@EACH_SCALE
def test_what_covers_nothing_is_not_trusted_and_an_identifier_is(scale: Scale) -> None:
    assert confidence_of(scale.covered, scale) < 0.1
    assert confidence_of(1.2, scale) > 0.99
