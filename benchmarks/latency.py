"""Milliseconds per operation, in this process, without transport. Fills a palace with synthetic notes."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.app import open_app

WORDS = [
    "harbour",
    "ferry",
    "ticket",
    "lantern",
    "cargo",
    "schedule",
    "captain",
    "engine",
    "rope",
    "signal",
    "invoice",
    "refund",
    "token",
    "session",
    "cache",
    "queue",
    "worker",
    "deploy",
    "release",
    "rollback",
    "migration",
    "index",
    "schema",
    "replica",
    "backup",
    "alert",
    "budget",
    "minutes",
    "decision",
    "review",
    "garden",
    "tomato",
    "soup",
    "lentil",
    "bread",
    "oven",
    "travel",
    "hotel",
    "museum",
    "guitar",
    "melody",
]
BATCH = 100


def note(number: int, words: int = 45) -> str:
    """Random words with one identifier of its own."""
    chooser = random.Random(number)
    return f"Note zq{number:07d}: {' '.join(chooser.choice(WORDS) for _ in range(words))}."


def question(number: int) -> str:
    """Five random words."""
    chooser = random.Random(-number)
    return " ".join(chooser.choice(WORDS) for _ in range(5))


def fill(palace: Palace, count: int) -> None:
    """File notes in batches, in 5 wings of 4 rooms."""
    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        palace.checkpoint([{"wing": f"w{n % 5}", "room": f"r{n % 20}", "content": note(n)} for n in numbers])


def median(operation: Callable[[int], object], repeats: int) -> str:
    """Median and 95th percentile."""
    seconds = []
    for number in range(repeats):
        started = time.perf_counter()
        operation(number)
        seconds.append(time.perf_counter() - started)
    return (
        f"p50 {statistics.median(seconds) * 1e3:8.3f} ms   p95 {statistics.quantiles(seconds, n=20)[-1] * 1e3:8.3f} ms"
    )


def measure(palace: Palace, count: int, repeats: int) -> None:
    """Print a line per operation."""
    ids = [drawer.drawer_id for drawer in palace.list_drawers(limit=10).items]
    base = count + time.time_ns() % 1_000_000_000
    operations: dict[str, Callable[[int], object]] = {
        "search": lambda n: palace.search(question(n)),
        "search, asked again": lambda n: palace.search("ferry ticket refund"),
        "search in a wing": lambda n: palace.search(question(n + repeats), wing="w1"),
        "search, exact identifier": lambda n: palace.search(f"note zq{n * count // repeats:07d}"),
        "list_drawers": lambda n: palace.list_drawers(),
        "list_drawers in a room": lambda n: palace.list_drawers(wing="w1", room="r1"),
        "get_drawers": lambda n: palace.get_drawers(ids),
        "get_taxonomy": lambda n: palace.get_taxonomy(),
        "wake_up": lambda n: palace.wake_up(),
        "add_drawer": lambda n: palace.add_drawer("late", "r", note(base + n)),
        "kg_add": lambda n: palace.kg_add(f"s{n % 100}", "uses", f"o{base + n}"),
        "kg_query": lambda n: palace.kg_query(f"s{n % 100}"),
    }
    for name, operation in operations.items():
        print(f"{name:28} {median(operation, repeats)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawers", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--palace", help="keep the filled palace here and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        with open_app(load_settings({}, options.palace or scratch)) as app:
            print(f"{'open':28} {(time.perf_counter() - started) * 1e3:12.3f} ms")
            app.start()
            app.embedder.wait()
            held = app.palace.get_taxonomy().drawers
            started = time.perf_counter()
            if held < options.drawers:
                fill(app.palace, options.drawers)
            filed = time.perf_counter() - started
            app.wait_until_indexed()
            print(f"{'fill':28} {filed:8.1f} s to file, {time.perf_counter() - started:.1f} s to embed and index")
            measure(app.palace, options.drawers, options.repeats)


if __name__ == "__main__":
    main()
