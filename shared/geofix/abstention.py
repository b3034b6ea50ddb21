"""Which answers to withhold: how often those that are kept are right, from the surest one on. Pure.

A risk-coverage curve after El-Yaniv and Wiener (2010), told as what is right in place of what is at risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from geofix.evaluation import Outcome, errors_km

SHARES = (10, 20, 30, 50, 70, 100)
"""Percent of the images answered at which the curve is told."""
RANKED_BY = 0.5
"""The probability whose radius orders the answers: the half radius says most of which ones lie within a region."""


@dataclass(frozen=True)
class RiskCoverage:
    """How often answers are right when only the surest are given.

    Attributes:
        within_km: what counts as right.
        right: percent of the images answered -> percent of those answers that are right; only shares that there are answers for.
        auroc: chance that of a right and a wrong answer the right one is held surer, ties half; None where all are alike.
    """

    within_km: float
    right: dict[int, float]
    auroc: float | None

    def record(self) -> dict[str, Any]:
        """The curve as JSON can hold it."""
        return {
            "within_km": self.within_km,
            "right": {str(share): round(right, 3) for share, right in self.right.items()},
            "auroc": None if self.auroc is None else round(self.auroc, 4),
        }


def risk_coverage(outcomes: Sequence[Outcome], within_km: float = 200.0) -> RiskCoverage | None:
    """The curve of the answers with a radius, the smallest 50 % radius first; None without any.

    Shares are of all images, so an image without an answer, or without a radius, is never among those given.
    """
    ranked = [outcome for outcome in outcomes if RANKED_BY in outcome.radii_km]
    if not ranked:
        return None
    radius = np.array([outcome.radii_km[RANKED_BY] for outcome in ranked])
    right = errors_km(ranked) <= within_km
    kept = np.cumsum(right[np.argsort(radius, kind="stable")])
    given = {share: round(len(outcomes) * share / 100) for share in SHARES}
    shares = {share: 100 * float(kept[n - 1]) / n for share, n in given.items() if 0 < n <= len(ranked)}
    return RiskCoverage(within_km, shares, auroc(-radius, right))


def auroc(score: ArrayLike, positive: ArrayLike) -> float | None:
    """Chance that a positive has the higher score than a negative, ties half (Mann-Whitney); None without both kinds.

    Args:
        score: shape (n,).
        positive: truth values, shape (n,).
    """
    scores, is_positive = np.asarray(score, float), np.asarray(positive, bool)
    count = int(is_positive.sum())
    if not 0 < count < len(scores):
        return None
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - (ties - 1) / 2)[place]
    above = float(rank[is_positive].sum()) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))
