"""Time and anonymous memory of vector search: `python -m benchmarks.vectors [ROWS ...]`, by default 1000 10000 100000.

The vectors are random and gathered around 200 directions. For each size: loading the exact matrix, a query by it, a
query by Chroma and the tail, a filtered query, catching up with 1 and with 100 new vectors, moving rows into Chroma as
the server does. Meanwhile one thread measures by how much a sleep of 1 ms is late, and another one asks.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.runtime.indexer import INDEX_BATCH, NICENESS
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.index import VectorIndex
from mempalace_mcp.storage.vectors.log import Vectors

DIMENSION = 384
CHUNKS = 4
WINGS = 7
LIMIT = 50
FILTER = DrawerFilter(wing="3")


def clustered_vectors(count: int, seed: int) -> Vectors:
    centres = np.random.default_rng(0).standard_normal((200, DIMENSION)).astype(np.float32)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, DIMENSION), dtype=np.float32)
    vectors = centres[random.integers(0, len(centres), count)] + 0.8 * noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def file_rows(database: Database, count: int, seed: int) -> None:
    """File drawers of `CHUNKS` chunks each, with vectors."""

    def work(transaction: Transaction) -> None:
        connection, seq = transaction.connection, transaction.stamp.seq
        for number, vector in enumerate(clustered_vectors(count, seed)):
            if number % CHUNKS == 0:
                wing = number // CHUNKS % WINGS + 1
                (drawer,) = connection.execute(
                    "INSERT INTO drawers (drawer_id, wing, room, created_at, updated_at, seq, content_hash,"
                    " normalized_hash, content) VALUES (hex(randomblob(12)), ?, ?, 0, 0, ?, x'', x'', ?) RETURNING id",
                    (wing, wing, seq, "text " * 400),
                ).fetchone()
            (chunk,) = connection.execute(
                "INSERT INTO chunks (drawer, ordinal, start, stop) VALUES (?, ?, 0, 1) RETURNING id",
                (drawer, number % CHUNKS),
            ).fetchone()
            connection.execute("INSERT INTO vectors (chunk, embedding) VALUES (?, ?)", (chunk, vector.tobytes()))

    database.write(work, Deadline(600))


def add_places(database: Database) -> None:
    def work(transaction: Transaction) -> None:
        for wing in range(1, WINGS + 1):
            transaction.connection.execute("INSERT INTO wings (key, name) VALUES (?, ?)", (str(wing), str(wing)))
            transaction.connection.execute("INSERT INTO rooms (wing, key, name) VALUES (?, 'r', 'r')", (wing,))
        assert transaction.stamp

    database.write(work, Deadline(60))


def anonymous_megabytes(process: int | str = "self") -> float:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def measure(index: VectorIndex, database: Database, drawer_filter: DrawerFilter, queries: Vectors) -> str:
    times = []
    for query in queries:
        with database.read() as connection:
            times.append(milliseconds(lambda: index.nearest(connection, query, LIMIT, drawer_filter)))  # noqa: B023
    return f"p50 {statistics.median(times):6.2f}  p95 {sorted(times)[len(times) * 19 // 20]:6.2f} ms"


def recall(index: VectorIndex, exact: VectorIndex, database: Database, queries: Vectors) -> float:
    found = 0
    with database.read() as connection:
        for query in queries:
            want = {one.chunk for one in exact.nearest(connection, query, LIMIT, DrawerFilter())}
            found += len(want & {one.chunk for one in index.nearest(connection, query, LIMIT, DrawerFilter())})
    return found / (LIMIT * len(queries))


def spread(milliseconds: Sequence[float]) -> str:
    low, middle, high = np.quantile(milliseconds, (0.5, 0.95, 0.99))
    return f"p50 {low:.1f}  p95 {middle:.1f}  p99 {high:.1f}  max {max(milliseconds):.1f} ms"


def fill(
    index: VectorIndex, database: Database, queries: Vectors, rows: int, report: Callable[[str, object], None]
) -> None:
    """Move all rows into Chroma while other threads tick and ask; report how each of them fares."""
    finished = threading.Event()
    delays: list[float] = []
    answers: list[float] = []

    def tick() -> None:
        while not finished.is_set():
            delays.append(milliseconds(lambda: time.sleep(0.001)) - 1)

    def ask() -> None:
        number = 0
        while not finished.wait(0.05):
            number += 1
            with database.read() as connection:
                query = queries[number % len(queries)]
                answers.append(milliseconds(lambda: index.nearest(connection, query, LIMIT, DrawerFilter())))  # noqa: B023

    def move() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            started = time.perf_counter()
            if not index.advance(database.read, INDEX_BATCH):
                break
            batches.append((time.perf_counter() - started) * 1000)
            time.sleep(index.rest)
        finished.set()

    batches: list[float] = []
    started = time.perf_counter()
    threads = [threading.Thread(target=work) for work in (tick, ask, move)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    report("chroma: fill", f"{seconds:.0f} s, {rows / seconds:.0f} rows/s")
    report("chroma: a batch", spread(batches))
    report("meanwhile: 1 ms late by", spread(delays))
    report("meanwhile: query", spread(answers))


def run(rows: int, directory: Path) -> None:
    database = Database(directory)
    add_places(database)
    for start in range(0, rows, 10_000):
        file_rows(database, min(10_000, rows - start), start + 1)
    queries = clustered_vectors(100, 5)

    def report(what: str, text: object) -> None:
        print(f"{rows:7}  {what:28} {text}   (anonymous {anonymous_megabytes():.0f} MB)", flush=True)

    def ask(index: VectorIndex) -> None:
        with database.read() as connection:
            index.nearest(connection, queries[0], LIMIT, DrawerFilter())

    report("before", "")
    exact = VectorIndex(directory, mode="exact", stat_cooldown=5)
    report("exact: load", f"{milliseconds(lambda: ask(exact)):.0f} ms")
    report("exact: query", measure(exact, database, DrawerFilter(), queries))
    report("exact: filtered query (1/7)", measure(exact, database, FILTER, queries))
    for count in (1, 100):
        file_rows(database, count, 3_000_000 + count)
        report(f"exact: query after {count} new", f"{milliseconds(lambda: ask(exact)):.2f} ms")
    both = VectorIndex(directory, mode="chroma", stat_cooldown=5, minimum_rows=1000)
    fill(both, database, queries, rows, report)
    report("chroma: its process", f"{anonymous_megabytes(both.statistics().process or 'self'):.0f} MB anonymous")
    both.close()
    report("chroma: closed", "")
    both = VectorIndex(directory, mode="chroma", stat_cooldown=5, minimum_rows=1000, time_share=1.0)
    report("chroma: reopen", f"{milliseconds(lambda: both.advance(database.read, INDEX_BATCH)):.0f} ms")
    file_rows(database, 100, 4_000_000)
    report("both: query, tail of 100", measure(both, database, DrawerFilter(), queries))
    report("chroma: its process", f"{anonymous_megabytes(both.statistics().process or 'self'):.0f} MB anonymous")
    report("both: recall@50", f"{recall(both, exact, database, queries[:30]):.4f}")
    report("both: statistics", both.statistics())
    both.close()
    exact.close()
    database.close()


if __name__ == "__main__":
    for size in [int(text) for text in sys.argv[1:]] or [1_000, 10_000, 100_000]:
        with tempfile.TemporaryDirectory() as temporary:
            run(size, Path(temporary))
