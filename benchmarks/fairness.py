"""Milliseconds of one client's searches, alone and while another one imports, files or searches as fast as it can.

Run it as `python -m benchmarks.fairness`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from benchmarks.latency import fill, note, question
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.runtime.app import App, open_app

IN_FLIGHT = 64
"""Calls that the other client has unanswered, as many as a session may."""
FILES = 20
NOTES_IN_FILE = 200
CLIENT, OTHER = "client", "other client"

Load = Callable[[App, Path], Coroutine[Any, Any, None]]


async def idle(app: App, directory: Path) -> None:
    """Nobody else."""


async def importing(app: App, directory: Path) -> None:
    """One import after the other."""
    over = threading.Event()
    try:
        for number in itertools.count():
            await app.executor.run(OTHER, _import, app, directory / str(number), 20_000_000 + number * 100_000, over)
    finally:
        over.set()


async def filing(app: App, directory: Path) -> None:
    """New drawers, many at a time."""
    numbers = itertools.count(10_000_000)
    await _flood(lambda: app.executor.run(OTHER, app.palace.add_drawer, "late", "r", note(next(numbers))))


async def searching(app: App, directory: Path) -> None:
    """Searches, many at a time."""
    numbers = itertools.count(10_000_000)
    await _flood(lambda: app.executor.run(OTHER, app.palace.search, question(next(numbers))))


async def _flood(call: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async def repeat() -> None:
        while True:
            await call()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(repeat())


def _import(app: App, folder: Path, first: int, over: threading.Event) -> None:
    folder.mkdir()
    numbers = itertools.count(first)
    for file in range(FILES):
        parts = (f"# Part {number}\n\n{note(number)}" for number in itertools.islice(numbers, NOTES_IN_FILE))
        (folder / f"{file}.md").write_text("\n\n".join(parts))
    for _step in app.palace.import_paths([folder], wing="imported"):
        if over.is_set():
            return


@asynccontextmanager
async def beside(load: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The load under way within the block."""
    task = asyncio.create_task(load)
    await asyncio.sleep(1.0)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def measure(app: App, directory: Path, repeats: int, loads: Sequence[Load]) -> None:
    """Print a line for each load."""
    numbers = itertools.count()
    for load in loads:
        scratch = directory / load.__name__
        scratch.mkdir()
        seconds = []
        async with beside(load(app, scratch)):
            for _ in range(repeats):
                started = time.perf_counter()
                await app.executor.run(CLIENT, app.palace.search, question(next(numbers)))
                seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.01)
        p50, p95 = statistics.median(seconds) * 1e3, statistics.quantiles(seconds, n=20)[-1] * 1e3
        print(
            f"{load.__name__:12} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms   max {max(seconds) * 1e3:8.1f} ms", flush=True
        )


def main() -> None:
    loads = {load.__name__: load for load in (idle, importing, filing, searching)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawers", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--load", choices=list(loads), help="only this one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, open_app(load_settings({}, f"{scratch}/palace")) as app:
        app.start()
        app.embedder.wait()
        fill(app.palace, options.drawers)
        app.wait_until_indexed()
        chosen = [loads[options.load]] if options.load else list(loads.values())
        asyncio.run(measure(app, Path(scratch), options.repeats, chosen))


if __name__ == "__main__":
    main()
