"""Texts that were cut into pieces, whole again.

What was filed is cut without an overlap: its pieces one after the other are the text. What was mined from a file is cut
with an overlap, and white space at the edges of the pieces is gone: they are put together where the end of one is the
beginning of the next. Where a piece is missing, or no overlap is found, nothing is guessed: several texts remain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from mempalace_mcp.palace.migration.sources.chroma import Piece, position_of

_USUAL_OVERLAP = range(100, 89, -1)
"""Of 100 characters, without what white space at the edges has taken away."""

_SHORTEST_OVERLAP = 16
_LONGEST_OVERLAP = 2000


def joined(pieces: Sequence[Piece], *, overlapping: bool) -> list[tuple[list[Piece], str]]:
    """The texts that the pieces make, each with its pieces."""
    texts: list[tuple[list[Piece], str]] = []
    for piece in pieces:
        text = piece.text or ""
        if texts and position_of(piece) == position_of(texts[-1][0][-1]) + 1:
            members, before = texts[-1]
            overlap = overlap_of(members[-1].text or "", text) if overlapping else 0
            if overlap is not None:
                texts[-1] = ([*members, piece], before + text[overlap:])
                continue
        texts.append(([piece], text))
    return texts


def overlap_of(before: str, after: str) -> int | None:
    """How many characters at the end of a piece are the beginning of the next one; None if that cannot be told."""
    longest = min(len(before), len(after), _LONGEST_OVERLAP)
    sizes: Iterator[int] = chain(_USUAL_OVERLAP, range(longest, _SHORTEST_OVERLAP - 1, -1))
    return next((size for size in sizes if size <= longest and before.endswith(after[:size])), None)
