"""Radii that hold what they say, and the gate that says when there is no answer; both fitted on held-out images.

A radius is a conformal quantile of the error, conditioned on a score that predicts it (split conformal prediction, Vovk et al.
2005; binned by score in the manner of Mondrian conformal prediction). The score is a linear function of the signals of
`geofix.posterior.signals`. A calibration belongs to one bundle, one gallery version and one decision rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geofix.decision import DecisionRule
from geofix.geo import FloatArray

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities whose radii are stored; others between them are interpolated."""

SIGNALS = (
    "log_spread",
    "mass_200km",
    "log_cell_spread",
    "entropy",
    "log_top_weight",
    "top_similarity",
    "mean_similarity",
    "domain_score",
)
"""The signals that the score of a fitted radius is a linear function of."""

LEAST_QUERIES = 500
"""With fewer held-out images a gallery's answers carry no radius."""

HALF_EARTH_KM = 20_015.2
"""Half the Earth's circumference: no radius is larger."""


class Linear(BaseModel):
    """intercept + Σ coefficient · signal, over named signals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signals: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float

    @model_validator(mode="after")
    def _same_length(self) -> Linear:
        if len(self.signals) != len(self.coefficients):
            raise ValueError("one coefficient a signal")
        return self

    def __call__(self, signals: Mapping[str, float]) -> float:
        """The value for one answer.

        Raises:
            KeyError: a signal is missing.
        """
        return self.intercept + sum(c * signals[n] for n, c in zip(self.signals, self.coefficients, strict=True))


class RadiusFit(BaseModel):
    """Error quantiles as functions of a score.

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
        if not self.levels[0] <= probability <= self.levels[-1]:
            raise ValueError(f"probability must be within {self.levels[0]} to {self.levels[-1]}")
        score = self.score(signals)
        by_level = [float(np.interp(score, self.knots, np.log(row))) for row in self.radius_km]
        return min(float(np.exp(np.interp(probability, self.levels, by_level))), HALF_EARTH_KM)


class Calibration(BaseModel):
    """What `calibration.json` holds: the fit, the gate, and what they belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: DecisionRule = Field(description="the decision rule that it was fitted for")
    radius: RadiusFit | None = Field(None, description="absent: answers carry no radius and say UNCALIBRATED")
    gate: Linear | None = Field(None, description="localizable where it is at least 0; absent: every answer is")
    queries: int = Field(0, ge=0, description="held-out images that the radii were fitted on")
    source: str = Field("", description="what those images were")

    def radius_km(self, signals: Mapping[str, float], probability: float) -> float | None:
        """Radius in km for a probability, or None where nothing was fitted."""
        return None if self.radius is None else self.radius.at(signals, probability)

    def localizable(self, signals: Mapping[str, float]) -> bool:
        """Whether the image is of the kind that the model can place."""
        return self.gate is None or self.gate(signals) >= 0


def fit_calibration(
    signals: Sequence[Mapping[str, float]], error_km: ArrayLike, rule: DecisionRule, gate: Linear | None, source: str
) -> Calibration:
    """The calibration of a rule from held-out answers; the radii are fitted on those that the gate lets pass.

    Raises:
        ValueError: they are too few.
    """
    errors = np.asarray(error_km, float)
    passed = [i for i, s in enumerate(signals) if gate is None or gate(s) >= 0]
    bins = int(np.clip(len(passed) // 100, 3, 20))
    radius = fit_radius([signals[i] for i in passed], errors[passed], SIGNALS, bins=bins)
    return Calibration(rule=rule, radius=radius, gate=gate, queries=len(passed), source=source)


def fit_radius(
    signals: Sequence[Mapping[str, float]],
    error_km: ArrayLike,
    names: Sequence[str],
    *,
    bins: int = 20,
    levels: Sequence[float] = LEVELS,
) -> RadiusFit:
    """Fit radii on held-out answers: their signals and the true errors in km, both of length n.

    The answers are split in two halves by turns: one fits the score (least squares on log error), the other its quantiles,
    so that the score's own fit does not flatter them.

    Raises:
        ValueError: fewer than 20 answers a bin.
    """
    errors = np.asarray(error_km, float)
    if len(errors) < 20 * bins:
        raise ValueError(f"calibration in {bins} bins needs at least {20 * bins} images, not {len(errors)}")
    x = np.array([[s[name] for name in names] for s in signals], float)
    train, hold = np.arange(len(errors)) % 2 == 0, np.arange(len(errors)) % 2 == 1
    spread = np.where(x[train].std(axis=0) > 0, x[train].std(axis=0), 1.0)
    design = np.column_stack([np.ones(train.sum()), x[train] / spread])
    solution = np.linalg.lstsq(design, np.log1p(errors[train]), rcond=None)[0]
    score = Linear(
        signals=tuple(names), coefficients=tuple((solution[1:] / spread).tolist()), intercept=float(solution[0])
    )
    held_score = score.intercept + x[hold] @ np.array(score.coefficients)
    return _quantiles(score, held_score, errors[hold], bins, levels)


def _quantiles(score: Linear, values: FloatArray, errors: FloatArray, bins: int, levels: Sequence[float]) -> RadiusFit:
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, bins)
    knots = np.array([values[part].mean() for part in parts])
    rows = []
    for level in levels:
        raw = np.array([_conformal_quantile(errors[part], level) for part in parts])
        rows.append(np.exp(_isotonic(np.log(np.clip(raw, 0.1, HALF_EARTH_KM)))))
    radius = np.maximum.accumulate(np.array(rows), axis=0)
    return RadiusFit(
        score=score,
        knots=tuple(knots.tolist()),
        levels=tuple(levels),
        radius_km=tuple(tuple(row) for row in radius.tolist()),
    )


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
