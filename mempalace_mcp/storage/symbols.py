"""Words for what is written with symbols: `C++`, `.NET`, `--no-verify`, `->`, an emoji. Pure functions on text.

FTS5 drops symbols, so each becomes a letter of the private use area, which its tokenizer takes for one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from mempalace_mcp.storage.folding import fold, without_invisible

LONGEST = 64
"""Characters of a name; of a longer run of symbols only the beginning counts."""

_ENDED = re.compile(r"(?<![\w+#])([^\W_]\w{0,30})(\+\+|#|\+)(?![^\W\d]|[+#/=])")
"""`C++`, `F#`, `Disney+`, `C++17`."""

_SHORT = 2
"""Letters of a name that mean something else without its symbols: `C`."""

_LED = re.compile(r"(?<![\w.$@:#!%&~\\/-])(--?|[.$@:#!%&\\])(?=[^\W\d]|(?<=#)\d)(\w{1,64})((?:[-./:]\w+){0,8})")
"""`.NET`, `$PATH`, `@angular/core`, `--no-verify`, `:wq`, `#general`."""

_RUN = re.compile(r"[!#$%&*+\-./:<=>?@\\^_|~]{2,}")
_TELLING = re.compile(r"[<>=+*&|^~%@$\\]|::")
"""What a run must hold to be more than punctuation."""

_SIGN = re.compile(r"[\U0001f1e6-\U0001f1ff]{2}|[^\w\s\x00-\x7f]")
"""A flag, or another symbol beyond ASCII."""

_END = "\U000f0000"
"""Behind the last symbol of a whole run."""

_LEAD = re.compile(r"[-.$@:#!%&\\](?:[^\W\d]|(?<=#)\d)")
"""What a name that begins with a symbol holds in any case: few texts do, and to see that takes a tenth of the time."""

_ANY = re.compile(r"[!#$%&*+\-./:<=>?@\\^_|~]|[^\w\s\x00-\x7f]")


def symbol_words(text: str) -> Iterator[str]:
    """The words of a text for which symbols count: names, runs of symbols as a whole and in pairs, single signs."""
    seen = without_invisible(text)
    for match in _LED.finditer(seen) if _LEAD.search(seen) else ():
        lead, name, rest = match.groups()
        yield _lettered(lead + fold(name))
        if rest:
            yield _lettered((lead + fold(name + rest))[:LONGEST])
    if _may_end(seen):
        yield from map(_ended, _ENDED.finditer(seen))
    for run in _runs(seen):
        yield f"{_lettered(run)}{_END} {_pairs(run)}"
    yield from _signs(seen)


def asked_words(text: str) -> Iterator[tuple[str, bool]]:
    """The same for a question, names only as a whole. True marks the pairs of a run, which may be part of another."""
    seen = without_invisible(text)
    for match in _LED.finditer(seen):
        yield _lettered((match[1] + fold(match[2] + match[3]))[:LONGEST]), False
    for match in _ENDED.finditer(seen):
        yield _ended(match), False
    for run in _runs(seen):
        yield _lettered(run) + _END, False
        yield _pairs(run), True
    for sign in _signs(seen):
        yield sign, False


def mark_short_names(folded: str) -> str:
    """The text with `c++` as one word, so that it does not hold the word `c`."""
    if not _may_end(folded):
        return folded
    return _ENDED.sub(lambda match: f" {_ended(match)} " if len(match[1]) <= _SHORT else match[0], folded)


def _may_end(text: str) -> bool:
    """Can there be a name that ends with symbols?"""
    return "+" in text or "#" in text


def _runs(text: str) -> Iterator[str]:
    """The telling runs of symbols that belong to no name, without the end of a sentence."""
    if not _RUN.search(text):
        return
    for match in _RUN.finditer(_LED.sub(" ", _ENDED.sub(" ", text))):
        run = match[0].rstrip(".!?")[:LONGEST]
        if len(run) > 1 and _TELLING.search(run):
            yield run


def _pairs(run: str) -> str:
    """The phrase of the pairs of a run."""
    return " ".join(dict.fromkeys(_lettered(run[place : place + 2]) for place in range(len(run) - 1)))


def _signs(text: str) -> Iterator[str]:
    """The symbols beyond ASCII."""
    if not text.isascii():
        signs = (match[0] for match in _SIGN.finditer(text))
        yield from (_lettered(sign) for sign in signs if unicodedata.category(sign[0])[0] == "S")


def _ended(match: re.Match[str]) -> str:
    return fold(match[1]) + _lettered(match[2])


def _lettered(text: str) -> str:
    return _ANY.sub(lambda symbol: chr(0xF0000 | ord(symbol[0]) & 0xFFFF), text)
