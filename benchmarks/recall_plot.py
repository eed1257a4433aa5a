"""Draws the recall of variants as SVG: one panel for each protocol, one line for each cutoff, one place a variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 400, 250
"""Of a panel, in the units of the drawing."""
LEFT, RIGHT, TOP, BOTTOM = 40, 20, 34, 96
TICKS = range(0, 101, 20)
COLOURS = ("#c2571a", "#2f6fb0", "#2e8b57")
STYLE = """
text { font-family: system-ui, sans-serif; font-size: 11px; fill: #1f2933; }
.title { font-size: 12px; font-weight: 600; } .grid { stroke: #d5dbe1; }
polyline { stroke-width: 1.5; fill: none; }
"""

Panels = Mapping[str, Mapping[str, Sequence[float]]]
"""By protocol and variant the recall at each cutoff, in percent."""


def draw(panels: Panels, cutoffs: Sequence[int]) -> str:
    """The drawing as SVG, two panels in a row."""
    width, height = 2 * WIDTH, (len(panels) + 1) // 2 * HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="Recall by step">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (protocol, variants) in enumerate(panels.items()):
        x, y = number % 2 * WIDTH, number // 2 * HEIGHT
        lines += [f'<g transform="translate({x} {y})">', *_panel(protocol, variants, cutoffs), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(protocol: str, variants: Mapping[str, Sequence[float]], cutoffs: Sequence[int]) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    step = (WIDTH - LEFT - RIGHT) / max(1, len(variants) - 1)
    yield f'<text class="title" x="{LEFT}" y="{TOP - 14}">{escape(protocol)}</text>'
    for tick in TICKS:
        y = bottom - (bottom - TOP) * tick / 100
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>'
    for place, variant in enumerate(variants):
        x, y = LEFT + place * step, bottom + 14
        yield f'<text transform="translate({x:.1f} {y}) rotate(-30)" text-anchor="end">{escape(variant)}</text>'
    for column, (cutoff, colour) in enumerate(zip(cutoffs, COLOURS, strict=True)):
        points = [
            f"{LEFT + place * step:.1f},{bottom - (bottom - TOP) * recalls[column] / 100:.1f}"
            for place, recalls in enumerate(variants.values())
        ]
        yield f'<polyline stroke="{colour}" points="{" ".join(points)}"/>'
        x = WIDTH - RIGHT - 40 * (len(cutoffs) - column)
        yield f'<text x="{x}" y="{TOP - 14}" style="fill: {colour}">R@{cutoff}</text>'
