"""Draws times by size as SVG, both axes by powers of ten."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from html import escape

from benchmarks.recall_plot import COLOURS, STYLE

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 60, 120, 40, 46

Series = Mapping[str, Mapping[int, float]]
"""By name and number of rows, milliseconds."""


def draw(series: Series, title: str) -> str:
    """The drawing as SVG; a line for each series."""
    decades = _powers(rows for line in series.values() for rows in line)
    heights = _powers(value for line in series.values() for value in line.values())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
            f' aria-label="{escape(title)}">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
            *_grid(decades, heights),
            *_lines(series, decades, heights),
            "</svg>",
            "",
        ]
    )


def _powers(values: Iterable[float]) -> range:
    """The powers of ten around the values."""
    logarithms = [math.log10(value) for value in values]
    return range(math.floor(min(logarithms)), math.ceil(max(logarithms)) + 1)


def _x(rows: float, decades: range) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(rows) - decades[0]) / max(1, len(decades) - 1)


def _y(value: float, heights: range) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(value) - heights[0]) / max(1, len(heights) - 1)


def _grid(decades: range, heights: range) -> Iterator[str]:
    for power in heights:
        y = _y(10**power, heights)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>'
    for power in decades:
        x, y = _x(10**power, decades), HEIGHT - BOTTOM + 18
        yield f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{10**power:,}</text>'


def _lines(series: Series, decades: range, heights: range) -> Iterator[str]:
    for (name, line), colour in zip(series.items(), COLOURS, strict=False):
        places = [(_x(rows, decades), _y(value, heights)) for rows, value in sorted(line.items())]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline stroke="{colour}" points="{joined}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places)
        x, y = places[-1]
        yield f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" style="fill: {colour}">{escape(name)}</text>'
