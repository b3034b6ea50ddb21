"""The gate at a stated risk: which signals tell right answers from wrong ones, and from where on enough of them are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from geofix.calibration import SIGNALS, Abstention
from geofix.errors import InvalidInput
from geofix.geo import FloatArray
from geofix.linear import Linear
from geofix_training.experiment import Abstain

LEAST_ANSWERED = 50
"""Answers below which a share of right ones says nothing."""
RIDGE = 1e-3
"""Of the fit, a row, on standardised signals: a signal that never varies then does no harm."""


def fit_gate(
    signals: Sequence[Mapping[str, float]], error_km: ArrayLike, group: NDArray[np.uint64], config: Abstain
) -> tuple[Linear, Abstention]:
    """The gate that lets most answers pass of which `config.precision` are right, and what it reached on other groups.

    Groups whose hash is even choose the gate, the others tell what it is worth. The gate is a logistic regression of
    "within `config.within_km`" on the signals, less the threshold.

    Raises:
        InvalidInput: no threshold reaches the precision on enough answers.
    """
    x, right, chooses = _values(signals), np.asarray(error_km, float) <= config.within_km, group % np.uint64(2) == 0
    gate, score = _fit(x, right, chooses, config)
    return gate, _reached(right[~chooses], score[~chooses] >= 0, config)


def fit_gate_over_folds(
    signals: Sequence[Mapping[str, float]], error_km: ArrayLike, fold: NDArray[np.int64], config: Abstain
) -> tuple[Linear, Abstention]:
    """A gate chosen on all answers, and what gates chosen in the same way on the other folds reached on each fold.

    Raises:
        InvalidInput: no threshold reaches the precision on enough answers.
    """
    x, right = _values(signals), np.asarray(error_km, float) <= config.within_km
    passed = np.zeros(len(right), bool)
    for number in np.unique(fold):
        own = fold == number
        passed[own] = _fit(x, right, ~own, config)[1][own] >= 0
    return _fit(x, right, np.ones(len(right), bool), config)[0], _reached(right, passed, config)


def _values(signals: Sequence[Mapping[str, float]]) -> FloatArray:
    return np.array([[signal[name] for name in SIGNALS] for signal in signals])


def _fit(
    x: FloatArray, right: NDArray[np.bool_], chooses: NDArray[np.bool_], config: Abstain
) -> tuple[Linear, FloatArray]:
    """The gate that the answers `chooses` choose, and its value for all answers, (n,): they pass from 0 on."""
    mean, spread = x[chooses].mean(axis=0), x[chooses].std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    weights = _logistic((x[chooses] - mean) / spread, right[chooses])
    score = (x - mean) / spread @ weights[1:] + weights[0]
    threshold = _threshold(score[chooses], right[chooses], config.precision)
    if threshold is None:
        raise InvalidInput(
            f"no {LEAST_ANSWERED} of the {chooses.sum():,} answers that choose the gate are right within {config.within_km:g} km "
            f"in {config.precision:.0%} of cases: lower abstain.precision, raise abstain.within_km, or leave abstain out"
        )
    gate = Linear(
        signals=SIGNALS,
        coefficients=tuple((weights[1:] / spread).tolist()),
        intercept=float(weights[0] - threshold - (weights[1:] * mean / spread).sum()),
    )
    return gate, score - threshold


def _reached(right: NDArray[np.bool_], passed: NDArray[np.bool_], config: Abstain) -> Abstention:
    return Abstention(
        within_km=config.within_km,
        precision=config.precision,
        queries=len(right),
        answered=float(passed.mean()),
        right=float(right[passed].mean()) if passed.any() else 0.0,
    )


def _threshold(score: FloatArray, right: NDArray[np.bool_], precision: float) -> float | None:
    """The lowest score such that of the answers with at least that score so many are right; None where there is none."""
    order = np.argsort(-score, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= precision)
    enough = enough[enough >= LEAST_ANSWERED - 1]
    return float(score[order[enough[-1]]]) if len(enough) else None


def _logistic(x: FloatArray, right: NDArray[np.bool_]) -> FloatArray:
    """Intercept and coefficients, (1 + s,), of a logistic regression on standardised signals (n, s); 0 where all are alike."""
    if right.all() or not right.any():
        return np.zeros(1 + x.shape[1])
    fitted = LogisticRegression(C=1 / (RIDGE * len(x)), max_iter=1000).fit(x, right)
    return np.concatenate([fitted.intercept_, fitted.coef_[0]])
