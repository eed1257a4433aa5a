"""Chunking: cuts a text into the overlapping chunks that are embedded and indexed. Pure.

Lengths are in units of what a character costs the embedder, which reads 256 tokens: a Latin letter, digit or
punctuation mark is one unit (0.2 to 0.3 tokens), a character of any other script four (0.6 to 1.0 tokens, measured on
Russian, Greek, Arabic, Hindi, Korean, Chinese and Japanese). So a chunk holds about 800 characters of English, or 200
of Japanese.

Blobs (`core/blobs.py`) belong to no chunk, and no chunk reaches across one.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from mempalace_mcp.core.blobs import find_blobs, outside
from mempalace_mcp.core.model import Span

TARGET = 800
OVERLAP = 200
SHORTEST = 600
LONGEST = TARGET + OVERLAP
"""The limit of a chunk before another one. A fenced block of `TARGET` behind an overlap just fits."""

_COSTLY = 4
_COSTLY_CHARACTER = re.compile("[^\0-\u036f\u2000-\u206f]")

_LONGEST_CLUSTER = 32

_TURN = r"> |[-*+•] |\d{1,3}[.)] |[^\W\d_][\w .'’-]{0,39}: "
HEADING = re.compile(r"^(?=#{1,6} )", re.MULTILINE)
PARAGRAPH = re.compile(r"\n[ \t]{0,8}\r?\n")
TURN = re.compile(rf"^(?={_TURN})", re.MULTILINE)
"""Or an item of a list."""
SENTENCE = re.compile(r"[.!?…][\"'”’)\]]{0,3}\s|[。！？｡][」』”’）]{0,3}")
LINE = re.compile(r"\n")
_BOUNDARIES = (HEADING, PARAGRAPH, TURN, SENTENCE, LINE, re.compile(r"\s"))
"""Best first; the last one is a word's. A cut is at the end of the match."""

_FENCE = re.compile(r"^[ \t]{0,12}(`{3,}|~{3,})([^\n]*)", re.MULTILINE)
_NOT_BLANK = re.compile(r"\S")
_READABLE = re.compile(r"[^\W_]")


def split(content: str) -> list[Span]:
    """The chunks of a text, in order. Each overlaps the one before it; every non-blank character is in one.

    A chunk neither begins nor ends with white space. A text of at most `LONGEST` is one chunk, a blank one none. A
    fenced block of code stays whole in some chunk if it is no longer than `TARGET`. Takes time linear in the length.

    Text between two blobs is cut as a text of its own; without a letter or digit it is in no chunk. A text that is
    nothing but a blob has no chunks.
    """
    blobs = find_blobs(content)
    if not blobs:
        return list(_Splitter(content).spans())
    return [span for part in outside(blobs, 0, len(content)) for span in _spans_within(content, part)]


def _spans_within(content: str, part: Span) -> Iterator[Span]:
    text = content[part.start : part.stop]
    if _READABLE.search(text):
        for span in _Splitter(text).spans():
            yield Span(part.start + span.start, part.start + span.stop)


def fenced_blocks(content: str) -> Iterator[Span]:
    """Markdown's fenced blocks of code, from the opening fence to the end of the closing one, or else of the text."""
    opening: re.Match[str] | None = None
    for match in _FENCE.finditer(content):
        fence, rest = match.group(1, 2)
        if opening is None:
            if fence[0] == "~" or "`" not in rest:
                opening = match
        elif fence.startswith(opening.group(1)) and not rest.strip():
            yield Span(opening.start(), match.end())
            opening = None
    if opening is not None:
        yield Span(opening.start(), len(content))


def between_characters(content: str, position: int) -> int:
    """The first position from here on that splits neither a combining sequence nor CR LF, if there is one nearby."""
    for candidate in range(position, min(position + _LONGEST_CLUSTER, len(content))):
        if not splits_character(content, candidate):
            return candidate
    return position


def cost_of(text: str) -> int:
    """The units of a text."""
    return _cumulative_cost(text)[-1]


class _Splitter:
    """One text with the measures that its chunks need."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._end = len(content.rstrip())
        self._cost = _cumulative_cost(content)
        self._blocks = [block for block in fenced_blocks(content) if self._between(block.start, block.stop) <= TARGET]
        self._block_starts = [block.start for block in self._blocks]

    def spans(self) -> Iterator[Span]:
        covered = 0
        start = self._skip_blank(0)
        while covered < self._end:
            stop = self._stop(start)
            last = start + len(self._content[start:stop].rstrip())
            if last > covered:  # otherwise nothing but white space follows the overlap
                yield Span(start, last)
                covered = last
            start = self._skip_blank(self._start(start, stop))

    def _stop(self, start: int) -> int:
        """The best boundary around `TARGET` from the start, or the text's end if it is near."""
        if self._between(start, self._end) <= LONGEST:
            return self._end
        target = self._reach(start, TARGET)
        stop = self._boundary(self._reach(start, SHORTEST), target, self._reach(start, LONGEST))
        if stop is not None:
            return stop
        block = self._block_around(target)
        return block.start if block and block.start > start else between_characters(self._content, target)

    def _start(self, start: int, stop: int) -> int:
        """The best boundary for the next chunk to begin with: `OVERLAP` before the stop, or a little later."""
        earliest = max(start + 1, bisect_left(self._cost, self._cost[stop] - OVERLAP))
        boundary = self._boundary(earliest, earliest, (earliest + stop) // 2, in_blocks=True)
        return between_characters(self._content, earliest) if boundary is None else boundary

    def _boundary(self, low: int, target: int, high: int, *, in_blocks: bool = False) -> int | None:
        """Of the best kind of boundary found, the one nearest to the target."""
        for pattern in _BOUNDARIES:
            ends = (match.end() for match in pattern.finditer(self._content, low, high))
            found = [end for end in ends if self._may_cut(end, in_blocks)]
            if found:
                return min(found, key=lambda end: abs(end - target))
        return None

    def _may_cut(self, position: int, in_blocks: bool) -> bool:
        if not in_blocks and self._block_around(position):
            return False
        return not splits_character(self._content, position)

    def _block_around(self, position: int) -> Span | None:
        """The fenced block, of those to be kept whole, that a cut here would split."""
        index = bisect_left(self._block_starts, position) - 1
        if index >= 0 and position < self._blocks[index].stop:
            return self._blocks[index]
        return None

    def _between(self, start: int, stop: int) -> int:
        return self._cost[stop] - self._cost[start]

    def _reach(self, start: int, cost: int) -> int:
        """The farthest position whose text from the start costs no more than this."""
        return bisect_right(self._cost, self._cost[start] + cost) - 1

    def _skip_blank(self, position: int) -> int:
        match = _NOT_BLANK.search(self._content, position)
        return match.start() if match else len(self._content)


def _cumulative_cost(content: str) -> Sequence[int]:
    """At each position the cost of all characters before it."""
    if not _COSTLY_CHARACTER.search(content):
        return range(len(content) + 1)
    costs = (_COSTLY if _COSTLY_CHARACTER.match(character) else 1 for character in content)
    return array("L", accumulate(costs, initial=0))


def splits_character(content: str, position: int) -> bool:
    """True if a cut here would split a character from its marks, an emoji sequence, a surrogate pair, or CR LF."""
    if not 0 < position < len(content):
        return False
    before, after = content[position - 1], content[position]
    return (
        (before == "\r" and after == "\n")
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\udc00" <= after <= "\udfff"
        or (after > "\u02ff" and unicodedata.category(after).startswith("M"))
    )
