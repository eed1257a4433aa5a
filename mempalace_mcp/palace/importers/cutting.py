"""Cuts a text that is too long for one drawer into parts that give it back when put together."""

from __future__ import annotations

from collections.abc import Iterator

from mempalace_mcp.palace.chunking import between_characters

_SEPARATORS = ("\n\n", "\n", " ")


def cut(text: str, longest: int) -> Iterator[str]:
    """Parts of about `longest` characters at most, ending at a paragraph, a line or a space where there is one."""
    start = 0
    while len(text) - start > longest:
        stop = _end_of_part(text, start, start + longest)
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def _end_of_part(text: str, start: int, farthest: int) -> int:
    """Behind the last separator of the best kind in the part's second half."""
    for separator in _SEPARATORS:
        found = text.rfind(separator, (start + farthest) // 2, farthest)
        if found >= 0:
            return found + len(separator)
    return between_characters(text, farthest)
