"""What is measured of a server between two rounds of load, and when it has grown."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tests.soak.trend import Trend

MIB = 1 << 20
WARM_UP = 0.25
"""Of the samples: caches fill, pools reach their size, the allocator its working set."""

PERMITTED = {"threads": 3, "descriptors": 6, "tasks": 3, "rss_bytes": 16 * MIB, "allocated_blocks": 20_000}
"""By how much a gauge may rise while the judged samples are taken, few or many: for jitter, for pools and an allocator
that have not found their size yet, and for the kilobytes of index that each new text takes."""

LONGEST_LOG = 64 * MIB
"""Bytes of SQLite's log. It is reused, not cut, so it has a ceiling instead of a slope."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at rest; `seconds` since the load began, `calls` answered since the server was started."""

    seconds: float
    calls: int
    threads: int
    descriptors: int
    tasks: int
    rss_bytes: int
    allocated_blocks: int
    log_bytes: int
    database_bytes: int
    sessions: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much a gauge rises over the judged samples, and by how much at least."""

    gauge: str
    estimate: float
    at_least: float

    def __str__(self) -> str:
        return f"{self.gauge} {self.estimate:+,.1f} (at least {self.at_least:+,.1f})"


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """The trend of each gauge over the rounds after the warm-up, times their number."""
    judged = samples[round(len(samples) * WARM_UP) :]
    rounds = range(len(judged))
    trends = {gauge: Trend.of(rounds, [getattr(sample, gauge) for sample in judged]) for gauge in PERMITTED}
    return [Growth(gauge, trend.slope * rounds[-1], trend.lowest * rounds[-1]) for gauge, trend in trends.items()]


def grown(samples: Sequence[Sample]) -> list[Growth]:
    """Those that have risen for certain, and by more than is permitted."""
    return [growth for growth in growths(samples) if growth.at_least > PERMITTED[growth.gauge]]


class Journal:
    """Samples in a CSV file, each written as soon as it is taken."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._append([field.name for field in fields(Sample)], mode="w")

    def write(self, sample: Sample) -> None:
        """Add one."""
        self._append(astuple(sample))

    def _append(self, row: Iterable[object], mode: str = "a") -> None:
        with self._file.open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(row)


def read_journal(file: Path) -> list[Sample]:
    """The samples in a file that `Journal` wrote."""
    with file.open(newline="", encoding="utf-8") as stream:
        return [Sample(*map(ast.literal_eval, row)) for row in list(csv.reader(stream))[1:]]
