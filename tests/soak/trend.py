"""Does a gauge grow? A straight line through its samples that outliers do not bend, and how sure one can be of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, median

CONFIDENCE = 0.99
_MOST_POINTS = 400
"""More are thinned out: their pairs would take longer than they tell."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of the line, in units of y for one of x, and the limits it is within with 99 % confidence.

    The estimate is the median of the slopes of all pairs of points: H. Theil, "A rank-invariant method of linear and
    polynomial regression analysis", Proc. Kon. Ned. Akad. Wetensch. 53 (1950). The limits are the slopes at the ranks
    that follow from the variance n(n-1)(2n+5)/18 of Kendall's statistic: P. K. Sen, "Estimates of the regression
    coefficient based on Kendall's tau", J. Amer. Stat. Assoc. 63 (1968). Equal values make them only wider.
    """

    slope: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, x: Sequence[float], y: Sequence[float]) -> Trend:
        """The trend of y over x, which rises strictly; of fewer than two points nothing is known.

        Raises:
            ValueError: there are fewer than two points.
        """
        step = math.ceil(len(x) / _MOST_POINTS) or 1
        points = list(zip(x[::step], y[::step], strict=True))
        slopes = sorted((later[1] - now[1]) / (later[0] - now[0]) for now, later in combinations(points, 2))
        if not slopes:
            raise ValueError("a trend needs two points")
        n, pairs = len(points), len(slopes)
        spread = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
        below, above = math.floor((pairs - spread) / 2) - 1, math.ceil((pairs + spread) / 2)
        return cls(
            median(slopes),
            slopes[below] if below >= 0 else -math.inf,
            slopes[above] if above < pairs else math.inf,
        )
