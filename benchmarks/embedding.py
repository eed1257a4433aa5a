"""How fast a bundled embedder is and what it weighs: `python -m benchmarks.embedding [minilm|multilingual]`."""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported, as in the server

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import psutil

from mempalace_mcp.embedding.models import MODELS

SENTENCE = (
    "the daemon keeps one client open while every bridge passes its lines along and a drawer is found by meaning "
    "although nobody remembers which of the rooms it was filed in last spring when Caroline moved to Lisbon "
)
QUESTION_WORDS = 24
CHUNK_CHARACTERS = 700
CHUNKS = 300
QUESTIONS = 500


def main() -> None:
    """Load, ask, embed in bulk; print a line for each."""
    name = sys.argv[1] if len(sys.argv) > 1 else next(iter(MODELS))
    began = time.perf_counter()
    embedder = MODELS[name].load()
    print(f"load {name}, imports of its libraries included: {time.perf_counter() - began:.3f} s")
    embedder.embed([_text(1, 100)])
    print(f"memory with the model loaded: {_resident_megabytes():.0f} MB")
    questions = [" ".join(_text(seed, 500).split()[:QUESTION_WORDS]) for seed in range(QUESTIONS)]
    cuts = statistics.quantiles([_seconds(partial(embedder.embed_query, text)) for text in questions], n=20)
    print(f"question of {QUESTION_WORDS} words: p50 {1000 * cuts[9]:.2f} ms, p95 {1000 * cuts[18]:.2f} ms")
    chunks = [_text(seed, CHUNK_CHARACTERS) for seed in range(CHUNKS)]
    processor = time.process_time()
    seconds = _seconds(partial(embedder.embed, chunks))
    processor = time.process_time() - processor
    print(
        f"chunks of {CHUNK_CHARACTERS} characters: {CHUNKS / seconds:.0f} per second, "
        f"{CHUNKS / processor:.0f} per second of processor time"
    )
    print(f"memory afterwards: {_resident_megabytes():.0f} MB")
    print(embedder.statistics())
    embedder.close()


def _text(seed: int, characters: int) -> str:
    """Words in an order of their own for every seed."""
    words = SENTENCE.split()
    stride = 1 + seed % (len(words) - 1)
    return f"{seed} {' '.join(words[(seed + stride * step) % len(words)] for step in range(characters))}"[:characters]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _resident_megabytes() -> float:
    memory = psutil.Process().memory_info()
    resident: int = memory.rss - getattr(memory, "shared", 0)  # without the mapped tables, which the system can drop
    return resident / 1e6


if __name__ == "__main__":
    main()
