"""Token vectors: which tokens have them, what is kept of them, and the matches that they give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mempalace_mcp.core.errors import EmbedderUnavailable
from mempalace_mcp.core.model import TOKEN_BYTES
from mempalace_mcp.embedding.encoder import BUNDLED, GRAPH, MULTILINGUAL, MiniLm, SentenceEncoder
from mempalace_mcp.embedding.token_vectors import (
    DIMENSION,
    TokenVectors,
    is_telling,
    pack,
    token_match,
    unpack,
)
from mempalace_mcp.embedding.tokens import MAX_CHARACTERS

PART_THAT_MAKES_VECTORS = "ad97cf0323492f06f661c6a9f8051bfbb9eb4f48a98fa8212c9cfaed9aea7a62"
"""SHA-256 of the graph as far as its first output needs it. With another one the stamp of the model must change too."""

TEXTS = (
    "Caroline moved to Lisbon in March, because the hospital there had offered her a post.",
    "The nightly backup of the database starts at two o'clock, when the export is done.",
    "My grandmother's recipe needs three eggs, a spoon of honey and far more patience than I have.",
    "The train to Munich leaves from platform three at 7:42.",
    "def fibonacci(n: int) -> int: return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
)


def random_units(seed: int, rows: int) -> TokenVectors:
    drawn = np.random.default_rng(seed).normal(size=(rows, DIMENSION)).astype(np.float32)
    units: TokenVectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return units


def query_tokens(minilm: MiniLm, text: str) -> TokenVectors:
    tokens = minilm.query_tokens(text)
    assert tokens is not None
    return tokens


def packed_tokens(minilm: MiniLm, texts: Sequence[str]) -> list[bytes]:
    _, tokens = minilm.embed_with_tokens(texts)
    return [token for token in tokens if token is not None]


def packed(vectors: TokenVectors) -> bytes:
    """With each row as a word piece of its own."""
    return pack(np.arange(len(vectors)), vectors)


def test_the_graph_makes_vectors_as_before() -> None:
    model = onnx.load(str(BUNDLED / GRAPH))
    del model.graph.output[1:]
    last = [node.output[0] for node in model.graph.node].index("vector")
    del model.graph.node[last + 1 :]
    needed = {name for node in model.graph.node for name in node.input}
    constants = [constant for constant in model.graph.initializer if constant.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    content = model.SerializeToString(deterministic=True)
    assert hashlib.sha256(content).hexdigest() == PART_THAT_MAKES_VECTORS


def test_vectors_are_the_same_with_and_without_tokens(minilm: MiniLm) -> None:
    texts = [*TEXTS, "", "word " * 400, "東京の桜", "?!"]
    vectors, tokens = minilm.embed_with_tokens(texts)
    assert np.array_equal(vectors, minilm.embed(texts))
    assert np.array_equal(vectors, [minilm.embed_query(text) for text in texts])
    assert [token is not None for token in tokens] == [True] * len(texts)
    assert minilm.gives_tokens


def test_no_texts_have_no_token_vectors(minilm: MiniLm) -> None:
    vectors, tokens = minilm.embed_with_tokens([])
    assert vectors.shape == (0, minilm.stamp.dimension)
    assert tokens == []


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", 0),
        ("... -- !?", 0),
        ("what is it that you were", 0),
        ("apples", 1),
        ("The apples, and THE Apples!", 1),
        ("apples and bread and apples", 2),
        ("3.14", 2),
        ("[SEP] [CLS] [MASK] harbour [PAD]", 1),
        ("one " * 500 + "two", 1),
        (" " * MAX_CHARACTERS + "harbour", 0),
    ],
)
def test_pieces_that_tell_something_have_a_vector_each(minilm: MiniLm, text: str, rows: int) -> None:
    (tokens,) = packed_tokens(minilm, [text])
    assert len(tokens) == rows * TOKEN_BYTES
    assert unpack(tokens).shape == (rows, DIMENSION)


@pytest.mark.parametrize("piece", ["the", "[CLS]", "[unused7]", "-", "…", "##.", "["])
def test_some_pieces_tell_nothing(piece: str) -> None:
    assert not is_telling(piece)


@pytest.mark.parametrize("piece", ["harbour", "##ing", "7", "é", "東", "##s"])
def test_other_pieces_tell_something(piece: str) -> None:
    assert is_telling(piece)


def test_the_tokens_of_a_query_are_exact_and_remembered(minilm: MiniLm) -> None:
    query = query_tokens(minilm, "harbour lighthouse")
    assert query.shape == (2, DIMENSION)
    assert np.linalg.norm(query, axis=1) == pytest.approx(1, abs=1e-5)
    assert query_tokens(minilm, "harbour lighthouse") is query
    with pytest.raises(ValueError, match="read-only"):
        query[0] = 0


def test_a_query_of_stop_words_is_matched_by_them(minilm: MiniLm) -> None:
    assert query_tokens(minilm, "who was it?").shape == (4, DIMENSION)
    assert query_tokens(minilm, "").shape == (0, DIMENSION)


def test_the_model_for_many_languages_gives_none() -> None:
    embedder = SentenceEncoder.load(MULTILINGUAL)
    assert not embedder.gives_tokens
    vectors, tokens = embedder.embed_with_tokens(["ein Wort", "un mot"])
    assert np.array_equal(vectors, embedder.embed(["ein Wort", "un mot"]))
    assert tokens == [None, None]
    assert embedder.query_tokens("une question") is None
    embedder.close()


def test_without_a_model_there_are_no_tokens() -> None:
    embedder = MiniLm.load()
    embedder.close()
    with pytest.raises(EmbedderUnavailable):
        embedder.embed_with_tokens(["text"])
    with pytest.raises(EmbedderUnavailable):
        embedder.query_tokens("text")


def test_packing_loses_little() -> None:
    vectors = random_units(1, 300)
    kept = unpack(packed(vectors))
    lengths = np.linalg.norm(kept, axis=1)
    cosines = np.sum(kept * vectors, axis=1) / lengths
    assert lengths == pytest.approx(1, abs=0.15)
    assert cosines.min() > 0.97
    assert cosines.mean() > 0.99


def test_texts_are_unpacked_together_or_alone() -> None:
    texts = [packed(random_units(seed, rows)) for seed, rows in enumerate([3, 0, 1, 254])]
    assert np.array_equal(unpack(b"".join(texts)), np.concatenate([unpack(text) for text in texts]))


def test_vectors_of_one_piece_become_their_mean() -> None:
    vectors = random_units(2, 5)
    kept = unpack(pack(np.array([9, 4, 9, 7, 4]), vectors))
    means = np.stack([vectors[[1, 4]].mean(0), vectors[3], vectors[[0, 2]].mean(0)])
    cosines = np.sum(kept * means, axis=1) / np.linalg.norm(kept, axis=1) / np.linalg.norm(means, axis=1)
    assert cosines.min() > 0.98


def exact_match(query: TokenVectors, candidates: list[TokenVectors]) -> list[float]:
    """The formula, written out token by token."""
    met = [[max(0.0, *(float(token @ other) for other in candidate)) for token in query] for candidate in candidates]
    holders = [1 + sum(row[token] ** 6 for row in met) for token in range(len(query))]
    total = len(candidates) + 20
    weights = [np.log(1 + (total - count + 0.5) / (count + 0.5)) for count in holders]
    return [
        float(sum(weight * value**3 for weight, value in zip(weights, row, strict=True)) / sum(weights)) for row in met
    ]


def test_matches_are_those_of_the_formula() -> None:
    query = random_units(3, 7)
    texts = [unpack(packed(random_units(seed, 2 + 11 * (seed % 9)))) for seed in range(10, 40)]
    texts[4] = unpack(packed(query))
    matches = token_match(query, [packed(text) for text in texts])
    assert matches.dtype == np.float32
    assert matches == pytest.approx(exact_match(query, texts), abs=1e-3)
    assert matches.argmax() == 4
    assert matches[4] == pytest.approx(1, abs=0.1)


def test_a_candidate_without_tokens_is_no_match() -> None:
    query, text = random_units(5, 3), packed(random_units(5, 3))
    matches = token_match(query, [b"", text, b"", b"", text, b""])
    assert matches.tolist() == [0, matches[1], 0, 0, matches[1], 0]
    assert matches[1] > 0.8
    assert token_match(query, []).shape == (0,)
    assert token_match(query, [b"", b""]).tolist() == [0, 0]
    assert token_match(query[:0], [text]).tolist() == [0]


def test_a_token_that_all_candidates_meet_weighs_less() -> None:
    common, rare, other = (random_units(seed, 1) for seed in (6, 7, 8))
    texts = [np.concatenate([common, rare]), *[np.concatenate([common, other])] * 40]
    query: NDArray[np.float32] = np.concatenate([common, rare])
    both, one = token_match(query, [packed(text) for text in texts])[:2]
    assert both > 0.8
    assert one < 0.3


QUESTIONS = (  # a question for each of the texts
    "Which city does Caroline live in now?",
    "When are our data saved?",
    "How many eggs go into grandma's cake?",
    "From where does the train depart?",
    "recursive function",
)


@pytest.mark.parametrize("answer", range(len(TEXTS)))
def test_what_is_asked_for_is_matched_best(minilm: MiniLm, answer: int) -> None:
    tokens = packed_tokens(minilm, TEXTS)
    matches = token_match(query_tokens(minilm, QUESTIONS[answer]), tokens)
    assert matches.argmax() == answer
    first, second = sorted(matches, reverse=True)[:2]
    assert first > second + 0.03


def test_a_match_does_not_depend_on_the_order_of_candidates(minilm: MiniLm) -> None:
    tokens = packed_tokens(minilm, TEXTS)
    query = query_tokens(minilm, "honey from the hospital")
    assert token_match(query, tokens[::-1]) == pytest.approx(token_match(query, tokens)[::-1], abs=1e-6)
