"""Time of a search by the size of the palace: `python -m benchmarks.sizes [ROWS ...] [--plot FILE] [--json FILE]`.

Whole searches go through a palace of notes whose vectors are random, so that filling takes minutes and not hours; the
question is embedded. The vector index alone is measured with as many random vectors, by the exact matrix and by Chroma.
Figures of earlier runs in the JSON file are kept, and the plot shows all of them.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.latency import note, question
from benchmarks.size_plot import Series, draw
from benchmarks.vectors import DIMENSION, LIMIT, add_places, anonymous_megabytes, clustered_vectors, file_rows
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.model import TOKEN_BYTES, DrawerFilter, NewDrawer, Place
from mempalace_mcp.core.text import read_name
from mempalace_mcp.palace import chunking
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.indexer import INDEX_BATCH
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.index import VectorIndex

BATCH = 1000
TOKENS = 45
QUERIES = 60
SEARCH, EXACT, CHROMA = "search", "exact matrix", "Chroma"


def fill(app: App, count: int) -> None:
    """File notes with random vectors and token vectors, in 5 wings of 4 rooms."""
    drawers = app.stores.drawers
    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        vectors = clustered_vectors(len(numbers), first + 1)
        tokens = np.random.default_rng(first).integers(0, 256, (len(numbers), TOKENS * TOKEN_BYTES), np.uint8)

        def work(tx: Transaction, numbers: range = numbers, vectors: object = vectors, tokens: object = tokens) -> None:
            for number in numbers:
                place = Place(read_name(f"wing{number % 5}", "wing"), read_name(f"room{number % 4}", "room"))
                text = note(number)
                drawers.file(tx, NewDrawer(place=place, content=text), chunking.split(text))
            pending = [chunk.chunk for chunk in drawers.pending(tx.connection, 2 * BATCH)]
            rows = zip(pending, vectors, tokens, strict=True)  # type: ignore[call-overload]
            kept = [(chunk, vector.tobytes(), packed.tobytes()) for chunk, vector, packed in rows]
            drawers.store_vectors(tx, [row[:2] for row in kept], [(row[0], row[2]) for row in kept])
            drawers.set_model_stamp(tx, app.embedder.get().stamp)

        app.database.write(work, Deadline(600))


def milliseconds(action: Callable[[int], object]) -> float:
    """The median of some runs."""
    times = []
    for number in range(QUERIES):
        started = time.perf_counter()
        action(number)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[QUERIES // 6 :])


def measure_search(rows: int, directory: str) -> float:
    """A whole search, after the index has settled."""
    with open_app(load_settings({}, directory)) as app:
        app.embedder.start()
        app.embedder.wait()
        fill(app, rows)
        app.start()
        app.wait_until_indexed()
        return milliseconds(lambda number: app.palace.search(question(number)))


def measure_index(rows: int, directory: Path, mode: str) -> float:
    """The vector index alone."""
    database = Database(directory)
    add_places(database)
    for start in range(0, rows, 10_000):
        file_rows(database, min(10_000, rows - start), start + 1)
    queries = clustered_vectors(QUERIES, 5)
    index = VectorIndex(directory, mode=mode, stat_cooldown=5, minimum_rows=1, time_share=1.0)
    while mode == "chroma" and index.advance(database.read, INDEX_BATCH):
        pass

    def ask(number: int) -> None:
        with database.read() as connection:
            index.nearest(connection, queries[number], LIMIT, DrawerFilter())

    median = milliseconds(ask)
    index.close()
    database.close()
    return median


def main() -> None:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--only", choices=[SEARCH, EXACT, CHROMA], help="one of the three series")
    parser.add_argument("--json", type=Path, help="figures of this and earlier runs")
    parser.add_argument("--plot", type=Path, help="an SVG of them")
    options = parser.parse_args()
    known = json.loads(options.json.read_text("utf-8")) if options.json and options.json.exists() else {}
    for rows in options.rows:
        for series in [options.only] if options.only else [SEARCH, EXACT, CHROMA]:
            with tempfile.TemporaryDirectory() as directory:
                if series == SEARCH:
                    median = measure_search(rows, directory)
                else:
                    median = measure_index(rows, Path(directory), "exact" if series == EXACT else "chroma")
            known.setdefault(series, {})[str(rows)] = round(median, 2)
            print(f"{rows:8} {series:14} p50 {median:7.2f} ms   ({anonymous_megabytes():.0f} MB)", flush=True)
    if options.json:
        options.json.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    if options.plot:
        lines: Series = {name: {int(rows): value for rows, value in points.items()} for name, points in known.items()}
        options.plot.write_text(draw(lines, f"Search p50 by size, vectors of {DIMENSION} numbers"), "utf-8")


if __name__ == "__main__":
    main()
