"""Statistics of interleaved pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence


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


def compare(
    names: tuple[str, str], measures: tuple[Callable[[], float], Callable[[], float]], pairs: int
) -> list[float]:
    """First ÷ second of each pair of measurements, in images a second; which goes first alternates. Prints each pair."""
    ratios = []
    for pair in range(pairs):
        found = [0.0, 0.0]
        for which in (0, 1) if pair % 2 else (1, 0):
            found[which] = measures[which]()
        ratios.append(found[0] / found[1])
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, found, strict=True))
        print(f"pair {pair + 1}: {shown} images a second", flush=True)
    return ratios


def print_cost(what: str, ratios: Sequence[float]) -> None:
    """What something costs, from its throughput ÷ that without it."""
    middle, low, high = median_interval(ratios)
    interval = f"{low:.3f} to {high:.3f}, 95 % interval of the median, {len(ratios)} pairs"
    print(f"\nthroughput with ÷ without {what}: {middle:.3f} ({interval})")
    print(f"cost of {what}: {100 * (1 - middle):+.1f} % ({100 * (1 - high):+.1f} to {100 * (1 - low):+.1f} %)")
