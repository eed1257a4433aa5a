"""The order of drawers of which some have taken the place of others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mempalace_mcp.palace.ranking import Ranked, order_of

SUPERSEDED = 0.5
"""What is left of the score of a drawer whose place another one has taken."""
LEAST_STEP = 1e-5
"""By so much it is at least below that."""


def yield_to_successors(ranked: Sequence[Ranked], successors: Mapping[int, int | None]) -> list[Ranked]:
    """The drawers again: a superseded one counts for less, and what took its place for as much as it would.

    `successors` has the latter by row, None where it is not among the drawers.
    """
    if not successors:
        return list(ranked)
    found = {each.drawer: each.score for each in ranked}
    scores = dict(found)
    for old, new in successors.items():
        if new is not None:
            scores[new] = max(scores[new], found[old])
    for old, new in successors.items():
        scores[old] = min(SUPERSEDED * found[old], (found[old] if new is None else scores[new]) - LEAST_STEP)
    return sorted((replace(each, score=scores[each.drawer]) for each in ranked), key=order_of)
