"""The words that a passage is indexed by, and the terms of a query. Pure functions on text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, islice

from mempalace_mcp.core.blobs import BOUND, find_blobs
from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone, day_of
from mempalace_mcp.core.model import Span
from mempalace_mcp.core.stop_words import STOP_WORDS
from mempalace_mcp.storage.word_forms import (
    asked_words,
    codes,
    compounds,
    fold,
    hashes,
    joined,
    mark_short_names,
    spellings,
    symbol_words,
    without_invisible,
)

LEAST_BEGINNING = 7
"""Characters by which a longer identifier is known."""

MAX_SYMBOL_WORDS = 64
"""Of a passage."""

MAX_TITLE_CHARACTERS = 100
MAX_RUN_PHRASE = 8
"""Longest run of an unspaced script that is also asked for as a whole."""

MAX_PHRASE_CHARACTERS = 128
"""Longest piece with inner punctuation that is also asked for as a whole."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "\u3005-\u3007\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_RUN_OR_REST = re.compile(f"([{_UNSPACED}]+)")
_QUOTED = re.compile('["“”„«»]([^"“”„«»]+)["“”„«»]')
_APOSTROPHE = re.compile("['`]")
_WORD = re.compile(r"([^\W_]+)(?:['’`]\w{1,2}\b)?")
_PLAIN_WORDS = re.compile(r"(?<!\S)(?:[A-Z]?[a-z]+[.,;:!?]?(?:\s+|\Z))+")
"""Words in small letters, which have no other spelling and no symbols: most of a text in English."""

_NO_TOKEN = "".join(chr(point) if chr(point).isalnum() else " " for point in range(128))
_TOKEN = re.compile(r"[^\x00-/:-@\[-`{-\x7f\s]+")
_HEXADECIMAL = re.compile(f"[0-9a-f]{{{LEAST_BEGINNING},}}")
_OTHER_SYMBOLS = re.compile(r"[^\w\s\x00-\x7f]+")
_LABELS = re.compile(r"[/\\:=]")
_IDENTIFIER_MARKS = frozenset("_./\\:@#")
_LONG_NUMBER = 5


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase to look up: tokens separated by blanks.

    `exact` marks identifiers and quoted phrases, whose holders must be found; `prefix` lets the last token go on;
    `name` marks an identifier, which may be known by its beginning, `inner` one that is part of a longer piece.
    """

    text: str
    exact: bool = False
    prefix: bool = False
    name: bool = False
    inner: bool = False


def passage_text(
    content: str, span: Span, occurred_at: Instant | None, source_file: str | None, zone: Zone = UTC_ZONE
) -> str:
    """What is indexed for a chunk: when it happened, the file's name, the drawer's first line, the chunk's own text.

    When is the day in that zone. The first line is left out where the chunk holds it. Wing and room are not words of
    the text.
    """
    header = []
    if occurred_at is not None:
        header.append(_date_words(day_of(occurred_at, zone)))
    if source_file:
        header.append(re.split(r"[/\\]", source_file.rstrip("/\\"))[-1])
    if span.start > 0:
        header.append(_title(content))
    return searchable("\n".join([*header, content[span.start : span.stop]]))


def _title(content: str) -> str:
    """The beginning of the first line, without what belongs to a blob."""
    beginning = content.lstrip()[: MAX_TITLE_CHARACTERS + 2 * BOUND]
    line = beginning[:MAX_TITLE_CHARACTERS].split("\n", 1)[0]
    blob = next(iter(find_blobs(beginning)), None)
    return line if blob is None else line[: blob.start]


def searchable(text: str) -> str:
    """The text as the index reads it: folded, unspaced scripts cut into bigrams; behind it what is not a word of it
    as it stands: the parts of compound names, other spellings, and names written with symbols.

    A run of n characters becomes its n - 1 bigrams and its last character, so that one character is found by prefix.
    Symbols become blanks: those that SQLite's tables do not know yet would be letters to its tokenizer.
    """
    telling = _PLAIN_WORDS.sub("\n", text)  # halves the time of what follows
    parts = chain.from_iterable((" ".join(parts), *joined(parts)) for _, parts in compounds(telling))
    others = chain(parts, spellings(telling), codes(telling), hashes(telling))
    words = mark_short_names(_spaced("\n".join(dict.fromkeys([text, *others]))))
    symbols = list(islice(dict.fromkeys(symbol_words(telling)), MAX_SYMBOL_WORDS))
    return "\n".join([words, *symbols]) if symbols else words


def count_tokens(indexed: str) -> int:
    """How many tokens FTS5 finds in a text as the index reads it."""
    return len(indexed.translate(_NO_TOKEN).split() if indexed.isascii() else _TOKEN.findall(indexed))


def read_query(query: str, fold: Callable[[str], str] = fold) -> tuple[Term, ...]:
    """The terms of a query, each once: quoted phrases and identifiers first, then words without stop words.

    When there are only stop words they are kept. A query may hold anything; without letters, digits and telling symbols
    it has no terms.
    """
    text = fold(query)
    quoted = [_phrase(match[1], exact=True) for match in _QUOTED.finditer(text)]
    pieces = _APOSTROPHE.sub(" ", text).split()
    symbols = [Term(word, exact=True, inner=inner) for word, inner in asked_words(query)]
    terms = chain(
        *(quoted, symbols, _compound_terms(query, fold)),
        (Term(code, exact=True) for code in codes(query)),
        (Term(each, exact=True, name=True) for each in hashes(query)),
        (_phrase(spelling, exact=False) for spelling in spellings(query)),
        *(_terms_of(piece) for piece in pieces),
    )
    known = [term for term in terms if term.text]
    telling = [term for term in known if term.text not in STOP_WORDS] or known
    ordered: dict[tuple[str, bool], Term] = {}
    for term in sorted(telling, key=lambda term: (not term.exact, not term.name)):
        ordered.setdefault((term.text, term.prefix), term)
    return tuple(sorted(ordered.values(), key=lambda term: not term.exact))


def without_words(text: str, words: Collection[str]) -> str:
    """The text without these folded words, and without what an apostrophe appends to them."""
    return _WORD.sub(lambda word: "" if fold(word[1]) in words else word[0], text) if words else text


def fold_case(text: str) -> str:
    """The form in which earlier versions compared words."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def kin_of(term: Term) -> list[Term]:
    """What is the same identifier written longer or shorter: it goes on, or is known by its first seven to all but
    one characters. One that is part of a longer piece is its own kin."""
    if not term.name or term.prefix or len(term.text) < LEAST_BEGINNING:
        return [term] if term.inner else []
    longest = 0 if " " in term.text else min(len(term.text), MAX_PHRASE_CHARACTERS)
    return [replace(term, prefix=True), *(Term(term.text[:size]) for size in range(LEAST_BEGINNING, longest))]


def is_asked(term: Term, query: str) -> bool:
    """Is a term a word of a folded query as it stands, not a phrase, another spelling, or cut out of a run?"""
    return term.text in query and not (" " in term.text or term.prefix or _RUN.search(term.text))


def is_symbolic(query: str) -> bool:
    """Is there no letter and no digit in a query?"""
    return not any(map(_is_of_word, query))


def _spaced(text: str) -> str:
    if text.isascii():
        return text
    spaced = _RUN.sub(lambda run: f" {' '.join([*_bigrams(run[0]), run[0][-1]])} ", fold(text))
    return _OTHER_SYMBOLS.sub(lambda symbols: _blank_out(symbols[0]), spaced)


def _compound_terms(query: str, fold: Callable[[str], str]) -> Iterator[Term]:
    """For each compound name the whole, its parts as a phrase, and each word of several: `base64` is not about 64."""
    for whole, parts in compounds(without_invisible(query)):
        yield Term(fold(whole), exact=True, name=True)
        yield _phrase(fold(" ".join(parts)), exact=True)
        words = [part for part in parts if len(part) > 1 and part.isalpha()]
        if len(words) > 1:
            yield from chain.from_iterable(_terms_of_word(fold(word)) for word in words)
            yield from (_phrase(fold(word), exact=False) for word in joined(parts))


def _terms_of(piece: str) -> Iterator[Term]:
    """The terms of one blank-separated piece: a phrase where punctuation joins words, and each word."""
    words = _words(piece)
    joined = len(words) > 1 and len(piece) <= MAX_PHRASE_CHARACTERS
    if joined and any(len(word) > 1 and word not in STOP_WORDS for word in words):
        named = _is_identifier(piece)
        yield _phrase(piece, exact=named, name=named)
        last = _LABELS.split(piece)[-1]
        if last != piece and len(_words(last)) > 1 and _is_identifier(last):
            yield replace(_phrase(last, exact=True, name=True), inner=True)
    for word in words:
        yield from _terms_of_word(word)


def _terms_of_word(word: str) -> Iterator[Term]:
    for part in filter(None, _RUN_OR_REST.split(word)):
        if not _RUN.match(part):
            coded = _is_coded(part)
            yield Term(part, exact=coded, name=coded)
        elif len(part) == 1:
            yield Term(part, prefix=True)
        else:
            if 2 < len(part) <= MAX_RUN_PHRASE:
                yield Term(" ".join(_bigrams(part)))
            yield from map(Term, _bigrams(part))


def _phrase(text: str, exact: bool, name: bool = False) -> Term:
    """The tokens of a text in their order. A run at its end may go on in the passage."""
    parts = [part for word in _words(text) for part in _RUN_OR_REST.split(word) if part]
    if not parts:
        return Term("")
    *before, last = parts
    tokens = list(chain.from_iterable(map(_tokens, before)))
    if not _RUN.match(last):
        return Term(" ".join([*tokens, last]), exact, name=name)
    return Term(" ".join([*tokens, *(_bigrams(last) or [last])]), exact, prefix=len(last) == 1)


def _tokens(part: str) -> list[str]:
    return [*_bigrams(part), part[-1]] if _RUN.match(part) else [part]


def _words(text: str) -> list[str]:
    """The runs of letters, digits and the marks that belong to them."""
    return _blank_out(text).split()


def _blank_out(text: str) -> str:
    return "".join(character if _is_of_word(character) else " " for character in text)


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")


def _is_identifier(piece: str) -> bool:
    """Is a piece with inner punctuation a name made for machines (`user_id`, `a/b.py`, `PROJ-12`, an address)?"""
    core = piece.strip("".join(character for character in piece if not _is_of_word(character)))
    return any(character in _IDENTIFIER_MARKS or character.isdigit() for character in core)


def _is_coded(word: str) -> bool:
    """Is a word without punctuation a name made for machines: digits among letters, a long number (in any base)?"""
    digits = sum(character.isdigit() for character in word)
    return 0 < digits < len(word) or digits >= _LONG_NUMBER or bool(_HEXADECIMAL.fullmatch(word))


def _bigrams(run: str) -> list[str]:
    return [run[index : index + 2] for index in range(len(run) - 1)]


def _date_words(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year} {_WEEKDAYS[day.weekday()]} {day.isoformat()}"
