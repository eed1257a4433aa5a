"""Cuts long texts into parts at paragraphs, lines or spaces. The parts one after the other are the text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from mempalace_mcp.core.blobs import find_blobs
from mempalace_mcp.core.text import MAX_CONTENT_BYTES
from mempalace_mcp.palace.chunking import between_characters

_SEPARATORS = ("\n\n", "\n", " ")
_MOST_BYTES = 4
"""Of one character in UTF-8. A blob has one byte a character."""


def cut(text: str, longest: int) -> Iterator[str]:
    """Parts of about `longest` characters at most, ending at a paragraph, a line or a space where there is one.

    Blobs (`core/blobs.py`) do not count, and are cut only where a part would have more bytes than a drawer may have.
    """
    cutter = _Cutter(text, longest)
    start = 0
    while (stop := cutter.stop(start)) < len(text):
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def fits(text: str, longest: int) -> bool:
    """Would the text be left whole?"""
    return len(text) <= longest or _Cutter(text, longest).stop(0) == len(text)


class _Cutter:
    """One text with the measures that its parts need."""

    def __init__(self, text: str, longest: int) -> None:
        self._text = text
        self._longest = longest
        self._most = max(longest, MAX_CONTENT_BYTES - _MOST_BYTES * (longest + 1))
        self._blobs = find_blobs(text)
        self._starts = [blob.start for blob in self._blobs]
        lengths = (blob.stop - blob.start for blob in self._blobs)
        self._lengths = list(accumulate(lengths, initial=0))
        # where each blob begins in the text without blobs
        self._places = [blob.start - before for blob, before in zip(self._blobs, self._lengths, strict=False)]

    def stop(self, start: int) -> int:
        """Where the part that begins here ends."""
        farthest = self._reach(start, self._longest)
        if farthest == len(self._text):
            return farthest
        middle = self._reach(start, self._longest // 2)
        for separator in _SEPARATORS:
            found = self._last(separator, middle, farthest)
            if found > start:
                return found
        return between_characters(self._text, farthest)

    def _reach(self, start: int, longest: int) -> int:
        """The farthest position with no more than so many characters that count before it; behind a blob there."""
        index = bisect_right(self._starts, start)
        inside = max(0, self._blobs[index - 1].stop - start) if index else 0
        place = start + inside - self._lengths[index] + longest
        passed = bisect_right(self._places, place)
        return min(place + self._lengths[passed], start + self._most, len(self._text))

    def _last(self, separator: str, low: int, high: int) -> int:
        """Behind the last such separator in a range that is in no blob, or -1."""
        while (found := self._text.rfind(separator, low, high)) >= 0:
            index = bisect_right(self._starts, found) - 1
            if index < 0 or self._blobs[index].stop <= found:
                return found + len(separator)
            high = self._starts[index]
        return -1
