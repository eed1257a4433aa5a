"""Which part of a text a search shows: the chunk that answers, with what its reader needs around it. Pure.

Chunks are cut for the embedding model: they may begin within a sentence, or leave out the end of a paragraph. A
passage completes the sentence at either end, then the paragraph, and a short chunk gets what stands beside it. It has
at most `MOST` units, as chunks are measured, and takes in no blob. A text that is hardly longer is shown whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mempalace_mcp.core.blobs import find_blobs
from mempalace_mcp.core.model import Span
from mempalace_mcp.palace.chunking import HEADING, LINE, PARAGRAPH, SENTENCE, TURN, cost_of, splits_character

MOST = 1200
"""Units, as of chunks: 300 to 500 tokens."""
SHORT = 600
"""A shorter chunk is shown with what stands beside it."""

_LONGEST_BOUNDARY = 64
"""Characters by which a boundary is recognized."""

Patterns = Sequence[re.Pattern[str]]

_PARAGRAPHS: Patterns = (HEADING, PARAGRAPH, TURN)
_SENTENCES: Patterns = (*_PARAGRAPHS, SENTENCE)
_LINES: Patterns = (LINE,)


def passage_around(content: str, chunk: Span) -> Span:
    """The passage to show for a chunk of a text. It holds the chunk; an end that differs splits no character."""
    area = _area(content, chunk)
    if _fits(content, area):
        return area
    text = _Text(content, area)
    passage = chunk
    for step in (text.begun_earlier, text.ended_later):
        # A line is a substitute for a sentence: one of wrapped prose ends within it.
        passage = step(passage, _SENTENCES) or step(passage, _LINES) or passage
    for step in (text.begun_earlier, text.ended_later):
        passage = step(passage, _PARAGRAPHS) or passage
    for step, part in ((text.begun_earlier, 2), (text.ended_later, 1), (text.begun_earlier, 1)):
        if missing := _missing(content, passage) // part:
            kinds = (_PARAGRAPHS, _SENTENCES, _LINES)
            passage = next(filter(None, (step(passage, kind, missing) for kind in kinds)), passage)
    return passage


def _area(content: str, chunk: Span) -> Span:
    """The whole text, or what stands between the blobs before and behind a chunk."""
    blobs = find_blobs(content)
    if not blobs:
        return Span(0, len(content))
    start = max((min(blob.stop, chunk.start) for blob in blobs if blob.start < chunk.start), default=0)
    stop = min((max(blob.start, chunk.stop) for blob in blobs if blob.stop > chunk.stop), default=len(content))
    behind = len(content[chunk.stop : stop].rstrip())
    return Span(_after_blanks(content, start, chunk.start), chunk.stop + behind)


def _fits(content: str, span: Span) -> bool:
    return span.stop - span.start <= MOST and cost_of(content[span.start : span.stop]) <= MOST


def _missing(content: str, passage: Span) -> int:
    """How many characters like its own a short passage lacks."""
    cost = cost_of(content[passage.start : passage.stop])
    return max(0, SHORT - cost) * (passage.stop - passage.start) // max(cost, 1)


class _Text:
    """A text, and the area of it that a passage may take from."""

    def __init__(self, content: str, area: Span) -> None:
        self._content = content
        self._area = area

    def begun_earlier(self, passage: Span, patterns: Patterns, by: int = 0) -> Span | None:
        """The passage from the last boundary on that comes so far before its start; None if that is too long."""
        latest = max(self._area.start, passage.start - by)
        lowest = max(self._area.start, passage.stop - MOST)
        ends = [*self._boundaries(lowest, latest + _LONGEST_BOUNDARY, patterns), self._area.start]
        starts = (_after_blanks(self._content, end, passage.start) for end in ends if lowest <= end <= latest)
        start = max((start for start in starts if start <= latest and self._is_whole(start)), default=None)
        return None if start is None else self._fitting(Span(start, passage.stop))

    def ended_later(self, passage: Span, patterns: Patterns, by: int = 0) -> Span | None:
        """The passage up to the first boundary that comes so far behind its end; None if that is too long."""
        earliest = min(self._area.stop, passage.stop + by)
        highest = passage.start + MOST + _LONGEST_BOUNDARY
        ends = [*self._boundaries(max(passage.start, earliest - _LONGEST_BOUNDARY), highest, patterns), self._area.stop]
        within = (end for end in ends if earliest <= end <= highest)
        stops = (passage.stop + len(self._content[passage.stop : end].rstrip()) for end in within)
        stop = min(filter(self._is_whole, stops), default=None)
        return None if stop is None else self._fitting(Span(passage.start, stop))

    def _boundaries(self, low: int, high: int, patterns: Patterns) -> Iterator[int]:
        for pattern in patterns:
            for match in pattern.finditer(self._content, low, min(high, self._area.stop)):
                yield match.end()

    def _is_whole(self, position: int) -> bool:
        return not splits_character(self._content, position)

    def _fitting(self, span: Span) -> Span | None:
        return span if _fits(self._content, span) else None


def _after_blanks(content: str, position: int, limit: int) -> int:
    """The first position from here on, up to the limit, that is not blank."""
    return limit - len(content[position:limit].lstrip()) if position < limit else position
