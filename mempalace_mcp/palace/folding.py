"""Near copies among the hits of a search: the best one is shown, and says how many there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mempalace_mcp.core.model import Hit
from mempalace_mcp.core.text import name_key

ALIKE = 0.9
"""The share of word pairs that two passages must have in common. Of 100 words one may differ, or two at one place."""

LENGTHS_ALIKE = 0.85
"""How long the shorter text must be against the longer one."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class _Print:
    """What two passages are compared by: pairs of words, words with digits, where they stand, how long they are."""

    pairs: frozenset[tuple[str, str]]
    numbers: frozenset[str]
    wing: str
    characters: int

    @classmethod
    def of(cls, hit: Hit) -> _Print:
        words = _WORD.findall(hit.passage.casefold())
        numbers = frozenset(word for word in words if _DIGIT.search(word))
        return cls(frozenset(pairwise(["", *words])), numbers, name_key(hit.drawer.wing), len(hit.drawer.content))

    def resembles(self, other: _Print) -> bool:
        """Do two passages say the same? Texts that differ in a number do not: pages, versions, amounts."""
        if self.wing != other.wing or self.numbers != other.numbers:
            return False
        shorter, longer = sorted((self.characters, other.characters))
        if shorter < LENGTHS_ALIKE * longer:
            return False
        return len(self.pairs & other.pairs) >= ALIKE * len(self.pairs | other.pairs)


def fold(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without near copies of better ones in the same wing, whose ids these get."""
    kept: list[tuple[_Print, Hit]] = []
    for hit in hits:
        mark = _Print.of(hit)
        for place, (known, better) in enumerate(kept):
            if known.resembles(mark):
                kept[place] = known, replace(better, copies=(*better.copies, hit.drawer.drawer_id))
                break
        else:
            kept.append((mark, hit))
    return [hit for _, hit in kept]
