"""The parts of compound names: `TideTableService`, `tideTableService` and `tideTable2` hold the words tide and table.

Names with punctuation between their parts need no care: their parts are words anyway.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_CHARACTERS = 128
"""Longer words are data."""

LEAST_AVERAGE = 2.0
"""Characters of a part, on the average: shorter parts are those of random names (`V1StGXR8`), not words."""

SHORT = 2
"""Letters of a part that is no word by itself: the i of iPhone, the O of OAuth2."""

_ASCII_COMPOUND = re.compile(r"(?<![A-Za-z0-9])(?>[A-Z]?[a-z]+|[A-Z]+)[A-Za-z0-9]+")
_ASCII_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_WORD = re.compile(r"[^\W\d_][^\W_]{3,}")
_DATA = re.compile(r"(?=[a-fA-F]*[0-9])[0-9a-fA-F]{7,}|.*[0-9]{5,}.*")
"""Hexadecimal numbers, and names with a long number."""


def compounds(text: str) -> Iterator[tuple[str, list[str]]]:
    """The compound names of a text, each with its parts, in their own case."""
    for match in (_ASCII_COMPOUND if text.isascii() else _WORD).finditer(text):
        parts = parts_of(match[0])
        if parts:
            yield match[0], parts


def parts_of(word: str) -> list[str]:
    """The parts of a compound name; none if it is a single word, or random letters and digits."""
    if len(word) > MAX_CHARACTERS or (word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        return []
    if word[0].isdigit() or _DATA.fullmatch(word):
        return []
    parts = _ASCII_PART.findall(word) if word.isascii() else list(_parts(word))
    return parts if 1 < len(parts) <= len(word) / LEAST_AVERAGE else []


def joined(parts: list[str]) -> Iterator[str]:
    """Neighbours of several as one word: `GitHubClient` is of GitHub, `iPhone15ProMax` of an iPhone and an iPhone15."""
    for start, first in enumerate(parts):
        for count in (2, 3) if len(first) <= SHORT else (2,):
            if count < len(parts) and start + count <= len(parts):
                yield "".join(parts[start : start + count])


def _parts(word: str) -> Iterator[str]:
    """As the expression for ASCII does it: letters and digits apart, a capital begins a part, the last capital of
    several begins the part that goes on in small letters."""
    start = 0
    for place in range(1, len(word)):
        before, here, after = word[place - 1], word[place], word[place + 1 : place + 2]
        if unicodedata.category(here) in ("Mn", "Mc", "Lm") or unicodedata.category(before) == "Lo":
            continue
        rises = here.isupper() and (before.islower() or (before.isupper() and after.islower()))
        if rises or before.isdigit() != here.isdigit():
            yield word[start:place]
            start = place
    yield word[start:]
