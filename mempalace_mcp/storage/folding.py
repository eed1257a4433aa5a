"""One form for what readers take for the same: how words are compared, never how they are kept or shown.

Compatibility and case forms unite, and so do the ways in which people write one word: with or without accents and
vowel signs, soft hyphens, a dot on the i. Letters that readers tell apart stay apart, such as и and й.
"""

from __future__ import annotations

import re
import unicodedata

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
