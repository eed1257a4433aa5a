"""The line through samples, its limits, and the drawing of them."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.plot_soak import GAUGES, draw
from tests.soak.gauges import Journal, Sample, grown, read_journal
from tests.soak.trend import Trend

FLAT = Sample(0.0, 0, 17, 41, 8, 180 << 20, 400_000, 4 << 20, 1 << 20, 0, 1.5)
JITTER = (0, 1, 0, 0, -1, 1, 0)


def test_outliers_do_not_bend_the_line() -> None:
    """Figures by hand: slopes of the pairs are 2 but for those with the outlier, whose median is beyond."""
    trend = Trend.of(range(9), [0, 2, 4, 1000, 8, 10, 12, 14, 16])
    assert trend.slope == 2
    assert trend.lowest <= 2 <= trend.highest


def test_a_straight_line_is_known_for_certain_and_a_short_one_not_at_all() -> None:
    assert Trend.of(range(20), [3 * x for x in range(20)]) == Trend(3, 3, 3)
    assert Trend.of((0, 1), (5, 6)) == Trend(1, -math.inf, math.inf)
    with pytest.raises(ValueError, match="two points"):
        Trend.of([0], [1])


def series(rounds: int, rise: float) -> list[Sample]:
    """Threads that jitter, and rise by so many a round."""
    return [replace(FLAT, seconds=float(n), threads=17 + round(rise * n) + JITTER[n % 7]) for n in range(rounds)]


@pytest.mark.parametrize(
    ("rounds", "rise", "found"), [(20, 0, []), (500, 0, []), (20, 1, ["threads"]), (500, 0.01, ["threads"])]
)
def test_jitter_is_no_growth_and_growth_is_not_hidden_by_it(rounds: int, rise: float, found: list[str]) -> None:
    assert [growth.gauge for growth in grown(series(rounds, rise))] == found


def test_a_journal_is_read_as_it_was_written_and_drawn_whole(tmp_path: Path) -> None:
    samples = series(30, 0.1)
    journal = Journal(tmp_path / "soak.csv")
    for sample in samples:
        journal.write(sample)
    assert read_journal(tmp_path / "soak.csv") == samples
    drawing = ElementTree.fromstring(draw(samples))
    written = "".join(drawing.itertext())
    assert all(gauge.title in written for gauge in GAUGES)
    assert len(drawing.findall(".//{*}polyline")) == len(GAUGES)
