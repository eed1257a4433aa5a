"""The multilingual model: the vectors of its release, translations that meet, and what it can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mempalace_mcp.embedding.encoder import SentenceEncoder
from mempalace_mcp.embedding.models import MODELS, model_of
from mempalace_mcp.embedding.tokens import SENTENCE_TOKENS, SentencePieces
from scripts.model.sentences import SENTENCES

REFERENCE = Path(__file__).with_name("multilingual_vectors.json")
MODEL = MODELS["multilingual"]

UNREADABLE = {
    "Greek": "Το πλοίο φεύγει για τη Νάξο κάθε πρωί στις επτά.",
    "Hebrew": "הפגישה נדחתה ליום חמישי בגלל השלג.",
    "Hindi": "बैठक कल सुबह दस बजे शुरू होगी।",
    "Armenian": "Հանդիպումը տեղափոխվեց հինգշաբթի։",
    "Georgian": "შეხვედრა ხუთშაბათისთვის გადაიდო.",
    "emoji": "🎉🎂🥳🎈",
}
READABLE = {
    "code": "SELECT wing, count(*) FROM drawers WHERE deleted_at IS NULL;",
    "hash": "a3f9c2e1-77b4-4d0e-9c55-0b8e5f1d2a6c",
    "one letter": "x",
    "one ideograph": "猫",
    "nothing": "",
    "mixed": "Η λέξη: the meeting was moved to Thursday because of the rain",
    "letters with marks": "naïve café, Zürich, Łódź, Ağrı",
}


@pytest.fixture(scope="module")
def multilingual() -> Iterator[SentenceEncoder]:
    embedder = MODEL.load()
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def vectors(multilingual: SentenceEncoder) -> NDArray[np.float32]:
    """Axes: language, sentence, vector."""
    return np.stack([multilingual.embed(sentences) for sentences in SENTENCES.values()])


def test_vectors_are_those_of_the_release(multilingual: SentenceEncoder) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    expected = np.array([entry["vector"] for entry in reference])
    assert len(expected) == len(SENTENCES)
    cosines = np.sum(multilingual.embed([entry["text"] for entry in reference]) * expected, axis=1)
    assert cosines.min() > 0.9995


def test_every_vector_is_of_unit_length(vectors: NDArray[np.float32]) -> None:
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=2) - 1).max() < 1e-5


def test_a_translation_is_nearer_than_another_sentence(vectors: NDArray[np.float32]) -> None:
    cosines = np.einsum("asv,btv->abst", vectors, vectors)
    same = np.diagonal(cosines, axis1=2, axis2=3)
    others = cosines[:, :, ~np.eye(vectors.shape[1], dtype=bool)]
    assert same.min() > 0.25
    assert (same.min(axis=2) > others.max(axis=2)).all(), "of any two of the sixteen languages"


def test_minilm_cannot_do_that() -> None:
    minilm = MODELS["minilm"].load()
    german, russian = (minilm.embed(SENTENCES[language]) for language in ("de", "ru"))
    assert (german @ russian.T).diagonal().max() < 0.35


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_it_does_not_read_other_alphabets(multilingual: SentenceEncoder, text: str) -> None:
    assert not multilingual.reads(text)


@pytest.mark.parametrize(
    "text", [*READABLE.values(), *("".join(each) for each in SENTENCES.values())], ids=[*READABLE, *SENTENCES]
)
def test_it_reads_its_languages_and_code(multilingual: SentenceEncoder, text: str) -> None:
    assert multilingual.reads(text)


def test_a_long_text_is_cut_between_its_marks() -> None:
    pieces = SentencePieces(MODEL.directory / "sp.model")
    ids = pieces.ids("word " * 10_000)
    assert len(ids) == SENTENCE_TOKENS
    assert (ids[0], ids[-1]) == (1, 2)
    assert pieces.ids("").tolist() == [1, 2]


def test_marks_stay_with_their_letters() -> None:
    pieces = SentencePieces(MODEL.directory / "sp.model")
    assert pieces.ids("re\u0301sume\u0301").tolist() == pieces.ids("résumé").tolist()
    assert pieces.ids("\u1112\u1161\u11ab글").tolist() == pieces.ids("한글").tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="maps are read from /proc")
def test_the_table_of_tokens_is_mapped(multilingual: SentenceEncoder) -> None:
    multilingual.embed(["It is read where it lies."])
    mapped = [line for line in Path("/proc/self/smaps").read_text().splitlines() if line.endswith("/usem/tokens.bin")]
    assert mapped


def test_a_model_is_known_by_its_stamp() -> None:
    assert model_of(MODEL.stamp) is MODEL
    assert model_of(None) is None
