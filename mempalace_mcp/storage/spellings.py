"""Other spellings of the words and numbers of a text, which no folding unites: written together, apart, without the
letter that a keyboard lacks. Pure functions on text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from mempalace_mcp.storage.folding import fold

_LEAST_DIGITS, _MOST_DIGITS = 7, 24
"""Of a number that is written in groups; fewer digits are a measure, more of them a table."""

_GROUPED = re.compile(
    r"(?<![\w.+-])(?<!\d[ /])\+?\(?\d{1,6}\)?(?:[ ./-]{1,2}\(?\d{1,6}\)?){1,9}(?!\w|[ ./-]{0,2}\(?\d)", re.ASCII
)
"""`+49 (170) 555-0142`, `978-3-16-148410-0`."""

_DATE = re.compile(r"\d{4}([-./])\d{1,2}\1\d{1,2}(?!\d)|\d{1,2}([-./])\d{1,2}\2\d{4}(?!\d)", re.ASCII)
_THOUSANDS = re.compile(
    r"(?<![\w.,'’])\d{1,3}(?:(?:([,'’])\d{3})(?:\1\d{3}){0,5}(?![\w'’])|(?:\.\d{3}){1,6}(?=,\d))", re.ASCII
)
"""`1,250,000`, `12'500`, `12.500,75`."""

_HEXADECIMAL = re.compile(r"(?<![\w:.-])[0-9A-Fa-f]{2,12}(?:[-:.][0-9A-Fa-f]{2,12}){2,9}(?![\w:-])", re.ASCII)
_LEAST_HEXADECIMAL, _MOST_HEXADECIMAL = 12, 64
"""Of an address of a device, or a UUID."""

_ACCOUNT = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: [0-9A-Z]{4}){2,7}(?: [0-9A-Z]{1,3})?(?!\w)", re.ASCII)
_NUMBERED = re.compile(r"(?<![\w-])[^\W\d_]{1,12}(?:-[^\W_]{1,12}){0,2}-\d{1,12}(?![\w-])")
"""`OPS-48213`, `UTF-8`, `CVE-2031-20071`."""

_DESCRIBED = re.compile(r"(?<![0-9A-Za-z])[gG](?=[a-fA-F]*[0-9])([0-9a-fA-F]{7,40})(?![0-9A-Za-z])")
"""`v2.4-17-g9f86d08`, as git describes a commit."""

_NO_DIGIT = re.compile(r"[^0-9A-Za-z]")

# What a code, or a word with a hyphen, holds in any case: few texts do, and to see that takes a tenth of the time.
_GROUPS = re.compile(r"\d\)?[ ./,'’-]{1,2}\(?\d", re.ASCII)
_HEXADECIMAL_GROUPS = re.compile(r"[0-9A-Fa-f]{2}[-:.][0-9A-Fa-f]{2}", re.ASCII)
_ACCOUNT_GROUPS = re.compile(r"[A-Z]{2}\d{2} [0-9A-Z]{4}", re.ASCII)
_NUMBER_BEHIND = re.compile(r"-\d")

_APOSTROPHE = re.compile(r"(?<![\w'])[^\W\d_]{1,32}(?:'[^\W\d_]{1,32}){1,3}(?![\w'])")
_CONTRACTED = frozenset(["s", "t", "d", "m", "ll", "re", "ve"])
_ELIDED = frozenset(["l", "d", "j", "m", "n", "s", "t", "c", "qu"])

_HYPHENED = re.compile(r"(?<![\w-])[^\W\d_]{1,24}(?:-[^\W\d_]{1,24}){1,2}(?![\w-])")
"""`e-mail`, `Wi-Fi`."""

_INITIALS = re.compile('(?<!\\w)([\u05d0-\u05ea]{1,8})["\u05f4]([\u05d0-\u05ea])(?!\\w)')
"""A Hebrew word made of initials, with the sign that says so."""

_ARABIC = "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ff"
_JOINED_APART = re.compile(f"[{_ARABIC}]{{1,64}}(?:\u200c[{_ARABIC}]{{1,64}}){{1,8}}")
"""Parts of a Persian word, held apart without a blank."""

_UMLAUT = re.compile("[^\\W\\d_]{0,64}[äöüåøđÄÖÜÅØĐ][^\\W\\d_]{0,64}")
_TYPED = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "đ": "dj"}
    | {"Ä": "ae", "Ö": "oe", "Ü": "ue", "Å": "aa", "Ø": "oe", "Đ": "dj"}
)


def codes(text: str) -> Iterator[str]:
    """The numbers and codes of a text that are written in groups, each in one piece: `491705550142`, `ops48213`."""
    grouped = bool(_GROUPS.search(text))
    if grouped:
        yield from _grouped(text)
    if _HEXADECIMAL_GROUPS.search(text):
        yield from _hexadecimal(text)
    if _ACCOUNT_GROUPS.search(text):
        yield from (_NO_DIGIT.sub("", match[0]).lower() for match in _ACCOUNT.finditer(text))
    if grouped:
        yield from (_NO_DIGIT.sub("", match[0]) for match in _THOUSANDS.finditer(text))
    if _NUMBER_BEHIND.search(text):
        yield from (fold(match[0].replace("-", "")) for match in _NUMBERED.finditer(_hyphened(text)))


def _hyphened(text: str) -> str:
    """The pieces of a text that hold a hyphen: the others cannot match, and there are many of them."""
    return " ".join(piece for piece in text.split() if "-" in piece)


def _grouped(text: str) -> Iterator[str]:
    for match in _GROUPED.finditer(text):
        digits = _NO_DIGIT.sub("", match[0])
        if _LEAST_DIGITS <= len(digits) <= _MOST_DIGITS and not _DATE.match(match[0]):
            yield digits


def _hexadecimal(text: str) -> Iterator[str]:
    for match in _HEXADECIMAL.finditer(text):
        digits = _NO_DIGIT.sub("", match[0]).lower()
        told = ":" in match[0] or not (digits.isdigit() or digits.isalpha())
        if told and _LEAST_HEXADECIMAL <= len(digits) <= _MOST_HEXADECIMAL:
            yield digits


def hashes(text: str) -> Iterator[str]:
    """The hashes of a text that have a letter before them."""
    yield from (match[1].lower() for match in _DESCRIBED.finditer(text))


def spellings(text: str) -> Iterator[str]:
    """The words of a text as others write them: `email` for e-mail, `obrien` for O'Brien, `groesse` for Größe, the
    parts of a Persian word as words."""
    if not text.isascii():
        for match in _JOINED_APART.finditer(text):
            yield fold(match[0].replace("\u200c", " "))
        for match in _INITIALS.finditer(text):
            yield match[1] + match[2]
        for match in _UMLAUT.finditer(unicodedata.normalize("NFC", text)):
            yield fold(match[0].translate(_TYPED))
    folded = fold(text)
    if "-" in folded:
        yield from (match[0].replace("-", "") for match in _HYPHENED.finditer(_hyphened(folded)))
    if "'" not in folded:
        return
    for match in _APOSTROPHE.finditer(folded):
        first, *_, last = parts = match[0].split("'")
        if first not in _ELIDED and last not in _CONTRACTED:
            yield "".join(parts)
