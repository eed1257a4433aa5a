"""Whether texts are in English."""

from __future__ import annotations

import pytest

from benchmarks.languages import read_notes
from mempalace_mcp.core.languages import is_foreign, mostly_foreign
from scripts.model.sentences import SENTENCES

CODE = (
    "def total(items):\n    return sum(item.price * item.quantity for item in items)\n",
    '{"id": 17, "tags": ["urgent"], "due": null}',
    "git push --force-with-lease origin main",
    "10.0.4.17:5432 ERROR 2026-11-02",
    "",
    "Καλημέρα κόσμε, τι κάνετε;",
)


@pytest.mark.parametrize("text", CODE)
def test_of_some_texts_it_cannot_tell(text: str) -> None:
    assert is_foreign(text) is None


def test_it_tells_notes_in_english_from_those_in_other_languages() -> None:
    notes = read_notes()
    english = [is_foreign(note.texts["en"]) for note in notes if "en" in note.texts]
    others = [is_foreign(text) for note in notes for language, text in note.texts.items() if language != "en"]
    assert True not in english
    assert False not in others
    assert english.count(None) + others.count(None) < 0.05 * len(english + others)


@pytest.mark.parametrize("language", SENTENCES)
def test_longer_texts_of_each_language_of_the_model(language: str) -> None:
    assert is_foreign(" ".join(SENTENCES[language])) is (language != "en")


def test_names_and_code_in_a_foreign_text_do_not_hide_its_script() -> None:
    assert is_foreign("我们用 PostgreSQL 和 Redis，部署在 Kubernetes 上，见 README.md")


def test_a_few_foreign_texts_among_english_ones_do_not_count() -> None:
    german, english = " ".join(SENTENCES["de"]), " ".join(SENTENCES["en"])
    assert mostly_foreign([german] * 5 + [english] * 4 + list(CODE))
    assert not mostly_foreign([german] * 5 + [english] * 5)
    assert not mostly_foreign([german] * 2)
    assert not mostly_foreign([])
