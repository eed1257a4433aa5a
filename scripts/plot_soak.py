"""Draw what a soak has measured: `python -m scripts.plot_soak soak.csv docs/soak.svg`.

One panel for each gauge, from zero, over the minutes of the run. The grey part is the warm-up; over the rest of what
must not grow lies the line of its trend, and under it stands what it would gain in an hour, with the limits of that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

from tests.soak.gauges import MIB, PERMITTED, WARM_UP, Sample, read_journal
from tests.soak.trend import Trend

COLUMNS = 2
WIDTH, HEIGHT = 400, 210
"""Of a panel, in the units of the drawing."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 52
HEAD = 44
TICKS = 4
MOST_POINTS = 400

INK, FAINT, LINE, TREND, SHADE = "#1f2933", "#d5dbe1", "#2f6fb0", "#c2571a", "#f1f3f5"
STYLE = f"""
text {{ font-family: system-ui, sans-serif; font-size: 11px; fill: {INK}; }}
.head {{ font-size: 15px; font-weight: 600; }} .title {{ font-size: 12px; font-weight: 600; }}
.grid {{ stroke: {FAINT}; stroke-width: 1; }} .axis {{ stroke: {INK}; stroke-width: 1; }}
.measured {{ stroke: {LINE}; stroke-width: 1.5; fill: none; stroke-linejoin: round; }}
.trend {{ stroke: {TREND}; stroke-width: 1.5; stroke-dasharray: 6 4; }} .told {{ fill: {TREND}; }}
"""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A field of the samples, how it is called, and how many of its units make one of those shown."""

    field: str
    title: str
    unit: float = 1


GAUGES = (
    Gauge("threads", "threads"),
    Gauge("descriptors", "open descriptors"),
    Gauge("tasks", "asyncio tasks"),
    Gauge("rss_bytes", "resident memory, MiB", MIB),
    Gauge("allocated_blocks", "memory blocks of Python, thousands", 1000),
    Gauge("log_bytes", "write-ahead log of SQLite, MiB", MIB),
)


def draw(samples: Sequence[Sample]) -> str:
    """The drawing as SVG."""
    rows = math.ceil(len(GAUGES) / COLUMNS)
    width, height = COLUMNS * WIDTH, HEAD + rows * HEIGHT
    last = samples[-1]
    told = f"{last.seconds / 60:,.0f} minutes, {len(samples):,} rounds, {last.calls:,} calls"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="Gauges of the server over {escape(told)}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text class="head" x="{LEFT}" y="26">One server under mixed load: {escape(told)}</text>',
    ]
    for number, gauge in enumerate(GAUGES):
        x, y = number % COLUMNS * WIDTH, HEAD + number // COLUMNS * HEIGHT
        lines += [f'<g transform="translate({x} {y})">', *_panel(gauge, samples), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(gauge: Gauge, samples: Sequence[Sample]) -> Iterator[str]:
    minutes = [sample.seconds / 60 for sample in samples]
    values = [getattr(sample, gauge.field) / gauge.unit for sample in samples]
    across = _Scale(minutes[-1], LEFT, WIDTH - RIGHT)
    up = _Scale(max(values) * 1.1, HEIGHT - BOTTOM, TOP)
    first = round(len(samples) * WARM_UP)
    yield f'<text class="title" x="{LEFT}" y="{TOP - 12}">{escape(gauge.title)}</text>'
    yield (
        f'<rect x="{LEFT}" y="{TOP}" width="{across(minutes[first]) - LEFT:.1f}" height="{HEIGHT - BOTTOM - TOP}"'
        f' fill="{SHADE}"/>'
    )
    for tick in up.ticks():
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(0)}" y2="{up(0)}"/>'
    for tick in across.ticks():
        yield f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:,g}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 30}" text-anchor="end">minutes</text>'
    step = math.ceil(len(samples) / MOST_POINTS)
    points = zip(minutes[::step], values[::step], strict=True)
    yield f'<polyline class="measured" points="{" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)}"/>'
    if gauge.field in PERMITTED:
        yield from _trend(minutes[first:], values[first:], across, up)


def _trend(minutes: Sequence[float], values: Sequence[float], across: _Scale, up: _Scale) -> Iterator[str]:
    trend = Trend.of([minute / 60 for minute in minutes], values)
    middle = median(value - trend.slope * minute / 60 for minute, value in zip(minutes, values, strict=True))
    ends = [(across(minute), up(middle + trend.slope * minute / 60)) for minute in (minutes[0], minutes[-1])]
    (x1, y1), (x2, y2) = ends
    yield f'<line class="trend" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    told = f"{_signed(trend.slope)} per hour (99 %: {_signed(trend.lowest)} to {_signed(trend.highest)})"
    yield f'<text class="told" x="{LEFT}" y="{HEIGHT - BOTTOM + 30}">{told}</text>'


def _signed(value: float) -> str:
    return f"{value:+,.1f}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True, slots=True)
class _Scale:
    """From zero to `largest` on an axis, from one place of the drawing to another."""

    largest: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (self.stop - self.start) * value / (self.largest or 1)

    def ticks(self) -> list[float]:
        """Round numbers at equal distances, few of them."""
        rough = (self.largest or 1) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
        return [number * step for number in range(math.floor(self.largest / step) + 1)]


if __name__ == "__main__":
    source, destination = map(Path, sys.argv[1:])
    destination.write_text(draw(read_journal(source)), encoding="utf-8")
