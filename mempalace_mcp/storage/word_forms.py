"""The forms of a word: folded, in parts, in other spellings, with symbols. Pure functions on text.

Folding unites compatibility forms, cases, and optional marks: accents, vowel signs, soft hyphens, the dot on the i.
Letters that readers tell apart stay apart, such as и and й. Folded text is compared, never stored or shown.

Compound names (`TideTableService`, `tideTable2`) also count by their parts. Other spellings are words written
together, apart, or without a letter that a keyboard lacks. Symbols (`C++`, `.NET`, `--no-verify`, `->`, an emoji) are
dropped by FTS5, so each becomes a letter of the private use area.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001f3fb-\U0001f3ff\U000e0000-\U000e0fff"
)
"""Takes no room: soft hyphens, joiners, marks of direction, variants of a sign, colours of a skin."""

_UNSEEN = re.compile(f"[{_INVISIBLE}]+")
_ARABIC_SIGNS = "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u08ca-\u08ff"
_OTHER_SIGNS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0730-\u074a\u20d0-\u20f0"
"""Hebrew and Syriac vowels, and what encloses a sign."""

_ACCENTED = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u1e00-\u1fff\u2c60-\u2c7f\ua720-\ua7ff"
"""Latin and Greek: letters with and without an accent are one to those who search."""

_CYRILLIC_VOWELS = "АЕИОУЫЭЮЯІЄаеиоуыэюяіє"

_SIGNS = re.compile(
    f"[{_INVISIBLE}{_ARABIC_SIGNS}{_OTHER_SIGNS}]+"
    f"|(?<=[{_ACCENTED}\\s])[\u0300-\u036f]+"
    "|(?<=[Ее])\u0308[\u0300\u0301]?"  # ё
    f"|(?<=[{_CYRILLIC_VOWELS}\u0306\u0308])[\u0300\u0301]+"  # the stress
    "|(?<=[\u0915-\u0917\u091c\u092b\u092f])\u093c"  # a dot below that Hindi readers do without
)
"""Of a decomposed text."""

_HIRAGANA = {katakana: katakana - 0x60 for katakana in (*range(0x30A1, 0x30F7), 0x30FD, 0x30FE)}

_ETHIOPIC = {
    letter + vowel: same + (0 if vowel == 3 and same != 0x1230 and same != 0x1340 else vowel)
    for letter, same in (
        *((0x1200, 0x1200), (0x1210, 0x1200), (0x1280, 0x1200), (0x1220, 0x1230)),
        *((0x12A0, 0x12A0), (0x12D0, 0x12A0), (0x1338, 0x1340)),
    )
    for vowel in range(7)
}
"""Letters that sound alike: each of ሀ ሐ ኀ, ሰ ሠ, አ ዐ, ፀ ጸ; ሀ and አ also with the vowel of ሃ and ኣ."""

_SAME = str.maketrans(
    {
        **dict.fromkeys("\u0060\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u2018\u2019\u201a\u201b\u2032\u2035\u05f3", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u05be", "-"),
        **dict.fromkeys("\u0622\u0623\u0625\u0671\u0672\u0673", "\u0627"),  # alef
        **dict.fromkeys("\u0649\u06cc\u06d2", "\u064a"),  # yeh
        **dict.fromkeys("\u0629\u06c1\u06c3\u06d5", "\u0647"),  # heh
        "\u06a9": "\u0643",  # kaf
        "ھ": "\u0647",
        "ı": "i",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ħ": "h",
        "ŧ": "t",
        **dict(zip("əɛɔɓɗɖɣɨƙŋɲƴ", "eeobddgiknny", strict=True)),  # typed so where the keyboard lacks them
        "\u0587": "եվ",
        **_ETHIOPIC,
        "\u0901": "\u0902",  # two signs of one nasal, in Hindi
        "\u05f0": "\u05d5\u05d5",
        "\u05f1": "\u05d5\u05d9",
        "\u05f2": "\u05d9\u05d9",
        "\u09ce": "\u09a4\u09cd",
        **{chr(0x0D7A + place): f"{letter}\u0d4d" for place, letter in enumerate("ണനരലളക")},
    }
    | {chr(katakana): chr(hiragana) for katakana, hiragana in _HIRAGANA.items()}
)
_SEQUENCES = {"եւ": "եվ", "l·l": "ll"}
"""The Armenian and, which has a capital of its own; the double l of Catalan."""

_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")


def fold(text: str) -> str:
    """The text as words are compared. What is the same to readers becomes the same, in whatever form it is encoded."""
    if text.isascii():
        return text.lower()
    bare = _SIGNS.sub("", unicodedata.normalize("NFKD", text.translate(_SAME)))
    united = unicodedata.normalize("NFKC", bare.casefold()).translate(_SAME)
    for written, same in _SEQUENCES.items():
        united = united.replace(written, same)
    return _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), united)


def without_invisible(text: str) -> str:
    """The text in its own case and form, without what takes no room."""
    return text if text.isascii() else _UNSEEN.sub("", text)


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
