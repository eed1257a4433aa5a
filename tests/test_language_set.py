"""The test set of languages is what `docs/languages.md` says of it."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest

from benchmarks.languages import VERSIONS, Answer, Note, read_notes, recall

SCRIPTS = {"ar": {"ARABIC"}, "ru": {"CYRILLIC"}, "ja": {"CJK", "HIRAGANA", "KATAKANA"}, "zh": {"CJK"}}
NOTES = read_notes()


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text has."""
    return Counter(unicodedata.name(letter).split()[0] for letter in text if letter.isalpha())


def written(language: str, text: str) -> bool:
    """Is most of a text in the script of a language?"""
    found = scripts(text)
    return 2 * sum(found[script] for script in SCRIPTS.get(language, {"LATIN"})) > found.total()


def test_there_are_200_questions_in_eight_languages_about_100_notes_in_three_each() -> None:
    assert len(NOTES) == len({note.id for note in NOTES}) == 100
    questions = Counter(language for note in NOTES for language in note.questions)
    assert questions == dict.fromkeys(("ar", "de", "en", "es", "fr", "ja", "ru", "zh"), 25)
    assert {len(note.texts) for note in NOTES} == {VERSIONS}
    assert min(Counter(language for note in NOTES for language in note.texts).values()) >= 30


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.id)
def test_each_text_is_in_its_language_and_no_question_repeats_it(note: Note) -> None:
    for language, text in [*note.texts.items(), *note.questions.items()]:
        assert written(language, text), text
        assert text == text.strip()
    assert not set(note.texts.values()) & set(note.questions.values())


def test_no_text_stands_for_two_notes() -> None:
    texts = [text for note in NOTES for text in (*note.texts.values(), *note.questions.values())]
    assert len(texts) == len(set(texts)) == 500


def test_recall_counts_notes_up_to_the_cutoff() -> None:
    answers = [Answer("en", "de", place) for place in (0, 4, 5, 9, None)]
    assert recall(answers).split(" / ") == [" 20.0", " 40.0", " 80.0"]
