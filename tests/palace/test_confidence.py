"""How far a score can be trusted."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mempalace_mcp.palace.confidence import COVERED, confidence_of


def test_a_higher_score_is_never_trusted_less() -> None:
    found = [confidence_of(step / 50) for step in range(-50, 170)]
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert all(0 <= each <= 1 for each in found)


@pytest.mark.parametrize(("score", "right"), [(0.35, 0.15), (0.45, 0.3), (0.55, 0.6), (0.65, 0.85)])
def test_confidence_is_what_was_measured(score: float, right: float) -> None:
    assert confidence_of(score) == pytest.approx(right, abs=0.08)


def test_what_covers_nothing_is_not_trusted_and_an_identifier_is() -> None:
    assert confidence_of(COVERED) < 0.05
    assert confidence_of(1.2) > 0.99
