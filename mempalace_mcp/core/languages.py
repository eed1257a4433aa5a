"""Whether texts are in English, judged cheaply: by their script, and by small words that every text is full of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_OTHER_SCRIPT = re.compile("[\u0400-\u04ff\u0600-\u06ff\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
"""Letters of Cyrillic, Arabic, Thai, Japanese, Chinese and Korean."""
_LETTER = re.compile(r"[^\W\d_]")
_SHARE = 0.15
"""Texts in other scripts have names and code in ours between their words."""

_SMALL_WORDS = {
    "en": "the of and to is that it for was with you we this are have be not at from",
    "de": "der die das und ist nicht ein eine mit für auf den dem wir ich auch sich von zu wird im bis",
    "fr": "le la les des est une pour dans que qui pas avec sur nous vous au du et un",
    "es": "el la los las que una para con por es del como más pero en se un",
    "it": "il la che di una per con non sono della gli è nel anche un si",
    "nl": "het een van niet dat zijn met voor wij ook naar maar op de en",
    "pl": "nie się na jest że jak dla przez oraz są od jego będzie po",
    "pt": "que uma para com não é em mais da dos na foi um se no",
    "tr": "var saat ve bir bu için ile çok değil olarak gibi olan her kadar sonra daha",
}
"""Words that are frequent in one language and rare in English."""
_LANGUAGES_OF = {
    word: [language for language, words in _SMALL_WORDS.items() if word in words.split()]
    for word in " ".join(_SMALL_WORDS.values()).split()
}

_LEAST_HITS = 2
_LEAST_TEXTS = 3
_REMEMBERED = 256
ENGLISH = "en"


@lru_cache(_REMEMBERED)  # `status` asks about the same texts again and again
def is_foreign(text: str) -> bool | None:
    """Is a text in another language than English? None if that cannot be told, as for code, or in other scripts."""
    letters = len(_LETTER.findall(text))
    if letters and len(_OTHER_SCRIPT.findall(text)) >= _SHARE * letters:
        return True
    counts = Counter(language for word in re.findall(r"\w+", text.lower()) for language in _LANGUAGES_OF.get(word, ()))
    english = counts.pop(ENGLISH, 0)
    other = max(counts.values(), default=0)
    if max(english, other) < _LEAST_HITS or english == other:
        return None
    return other > english


def mostly_foreign(texts: Iterable[str]) -> bool:
    """Are most of those texts of which the language can be told in another one than English?"""
    judged = [foreign for foreign in map(is_foreign, texts) if foreign is not None]
    return sum(judged) >= _LEAST_TEXTS and 2 * sum(judged) > len(judged)
