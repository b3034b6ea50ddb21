"""Statistics of interleaved pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The median, and an interval that holds the true median with at least `confidence`, by order statistics.

    No distribution is assumed: the number of values below the true median is binomial with chance 1/2 (Conover, Practical
    Nonparametric Statistics, 3.2). With fewer than 6 values the interval is from the least to the most, and less sure.
    """
    ordered, n = sorted(values), len(values)
    skipped, tail = 0, 0.5**n
    while 2 * (tail + math.comb(n, skipped + 1) * 0.5**n) <= 1 - confidence:
        skipped += 1
        tail += math.comb(n, skipped) * 0.5**n
    return statistics.median(ordered), ordered[skipped], ordered[n - 1 - skipped]
