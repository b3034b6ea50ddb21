"""Radii that hold what they say: error quantiles given the signals of an answer, fitted on held-out answers.

Conformalised quantile regression (Romano, Patterson and Candès 2019), binned by score in the manner of Mondrian conformal
prediction (Vovk et al. 2005): for each probability a linear quantile regression of the log error on the signals orders the
answers, and inside bins of that order the conformal quantile of other held-out errors is the radius.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from geofix.geo import FloatArray
from geofix.linear import Linear

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities whose radii are stored; others between them are interpolated."""
HALF_EARTH_KM = 20_015.2
"""Half the Earth's circumference: no radius is larger."""
LEAST_KM = 0.1
"""No radius is smaller: places are not known more closely."""
STEPS, EPSILON, RIDGE = 60, 0.01, 1e-3
"""Of the quantile regression: steps, the width in which the loss is rounded (log km), and the penalty a row."""


class RadiusFit(BaseModel):
    """Error quantiles as functions of one score for all probabilities: the form of calibrations made before `RadiusFits`.

    Attributes:
        score: predicts the log of the error.
        knots: rising scores, length b.
        levels: rising probabilities, length l.
        radius_km: l rows of b radii, km; rising along both axes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: Linear
    knots: tuple[float, ...]
    levels: tuple[float, ...]
    radius_km: tuple[tuple[float, ...], ...]

    def at(self, signals: Mapping[str, float], probability: float) -> float:
        """Radius in km within which the truth lies with `probability`.

        Raises:
            ValueError: the probability is outside the levels that were fitted.
        """
        score = self.score(signals)
        return _between(self.levels, [_at(score, self.knots, row) for row in self.radius_km], probability)


class LevelFit(BaseModel):
    """The radius of one probability.

    Attributes:
        level: the probability.
        score: orders answers by that quantile of their log error.
        knots: rising scores, length b.
        radius_km: rising radii at the knots, km, length b; between them their logarithms are interpolated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = Field(gt=0, lt=1)
    score: Linear
    knots: tuple[float, ...]
    radius_km: tuple[float, ...]


class RadiusFits(BaseModel):
    """The radii of several probabilities, rising."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fits: tuple[LevelFit, ...]

    def at(self, signals: Mapping[str, float], probability: float) -> float:
        """Radius in km within which the truth lies with `probability`.

        Raises:
            ValueError: the probability is outside the levels that were fitted.
        """
        logs = [_at(fit.score(signals), fit.knots, fit.radius_km) for fit in self.fits]
        return _between([fit.level for fit in self.fits], np.maximum.accumulate(logs).tolist(), probability)


def fit_radii(
    signals: Sequence[Mapping[str, float]],
    error_km: ArrayLike,
    names: Sequence[str],
    *,
    bins: int = 20,
    levels: Sequence[float] = LEVELS,
) -> RadiusFits:
    """Fit radii on held-out answers: their signals and the true errors in km, both of length n.

    The answers are split in two halves by turns, and each half is scored by what the other fitted, so that the scores' own fit
    does not flatter the quantiles; the score that is kept is the mean of both (cross-conformal prediction, Vovk 2015).

    Raises:
        ValueError: fewer than 20 answers a bin.
    """
    errors = np.asarray(error_km, float)
    if len(errors) < 20 * bins:
        raise ValueError(f"calibration in {bins} bins needs at least {20 * bins} images, not {len(errors)}")
    x = np.array([[s[name] for name in names] for s in signals], float)
    even = np.arange(len(errors)) % 2 == 0
    fits = []
    for level in levels:
        one, other = (quantile_regression(x[half], np.log1p(errors[half]), level, names) for half in (even, ~even))
        values = np.where(even, other.of_rows(x), one.of_rows(x))
        fits.append(_level(level, one.mean(other), values, errors, bins))
    return RadiusFits(fits=tuple(fits))


def quantile_regression(x: FloatArray, y: FloatArray, level: float, names: Sequence[str]) -> Linear:
    """The linear function of x, (n, s), that has `level` of y, (n,), below it: least pinball loss, by the MM algorithm of
    Hunter and Lange (2000), with a slight ridge on standardised columns.
    """
    spread = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    mean = x.mean(axis=0)
    design = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    penalty = RIDGE * len(x) * np.diag([0.0, *np.ones(x.shape[1])])
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    for _ in range(STEPS):
        weight = 1 / (EPSILON + np.abs(y - design @ solution))
        normal = (design * weight[:, None]).T @ design + penalty
        solution = np.linalg.solve(normal, design.T @ (weight * y + 2 * level - 1))
    coefficients = solution[1:] / spread
    intercept = float(solution[0] - coefficients @ mean)
    return Linear(signals=tuple(names), coefficients=tuple(coefficients.tolist()), intercept=intercept)


def _level(level: float, score: Linear, values: FloatArray, errors: FloatArray, bins: int) -> LevelFit:
    parts = np.array_split(np.argsort(values, kind="stable"), bins)
    raw = np.array([_conformal_quantile(errors[part], level) for part in parts])
    radius = np.exp(_isotonic(np.log(np.clip(raw, LEAST_KM, HALF_EARTH_KM))))
    knots = tuple(float(values[part].mean()) for part in parts)
    return LevelFit(level=level, score=score, knots=knots, radius_km=tuple(radius.tolist()))


def _at(score: float, knots: Sequence[float], radius_km: Sequence[float]) -> float:
    """Log of the radius at a score."""
    return float(np.interp(score, knots, np.log(radius_km)))


def _between(levels: Sequence[float], logs: Sequence[float], probability: float) -> float:
    """The radius, km, at a probability between those whose radii's logarithms are given."""
    if not levels[0] <= probability <= levels[-1]:
        raise ValueError(f"probability must be within {levels[0]} to {levels[-1]}")
    return min(float(np.exp(np.interp(probability, levels, logs))), HALF_EARTH_KM)


def _conformal_quantile(errors: FloatArray, level: float) -> float:
    """The ceil((n + 1)·level)-th smallest error: covers a new one with at least `level` where the two are exchangeable."""
    rank = min(int(np.ceil((len(errors) + 1) * level)), len(errors))
    return float(np.sort(errors)[rank - 1])


def _isotonic(values: FloatArray) -> NDArray[np.float64]:
    """The rising sequence nearest to `values` in least squares (pool adjacent violators)."""
    level, weight = [], []
    for value in values.tolist():
        level.append(value)
        weight.append(1)
        while len(level) > 1 and level[-2] > level[-1]:
            total = weight[-2] + weight[-1]
            level[-2:] = [(level[-2] * weight[-2] + level[-1] * weight[-1]) / total]
            weight[-2:] = [total]
    return np.repeat(level, weight)
