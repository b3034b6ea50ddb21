"""What tells the pictures that a model is for from pictures of nothing, as one linear function of the feature.

How far a feature lies from the training crops does not: noise and even colours lie near their middle. So a logistic
regression between the crops and pictures drawn by rules stands beside it, and an image must pass both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

RIDGE = 0.001
"""Inverse strength of the regularisation, over standardised values: the kinds are easy to tell apart, so it is strong."""


@dataclass(frozen=True)
class Domain:
    """A score of features (n, d), x @ weight + bias, weight of shape (d,), on the scale of the likeness that it stands beside."""

    weight: NDArray[np.float32]
    bias: float

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores, shape (n,)."""
        return np.asarray(features @ self.weight + self.bias, np.float32)


def fit_domain(own: NDArray[np.float32], foreign: NDArray[np.float32]) -> Domain:
    """From features of the model's own kind (n, d), their last value strangeness, and of pictures of nothing (m, d).

    The log odds are moved and stretched onto the scale of the likeness (minus strangeness): all but the least typical own images
    score above its median, so that likeness decides among them, and nearly all pictures of nothing below all of it. The
    smaller of both is then one score with one threshold.
    """
    x = np.concatenate([own, foreign]).astype(float)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    labels = np.arange(len(x)) < len(own)
    fitted = LogisticRegression(C=RIDGE, max_iter=2000, class_weight="balanced").fit((x - mean) / deviation, labels)
    weight = fitted.coef_[0] / deviation
    odds, likeness = own @ weight, -own[:, -1]
    low, high = np.quantile(odds, 0.005), np.quantile(foreign @ weight, 0.995)
    gap = max(low - high, 0.1 * odds.std())  # at least a little, where the two overlap
    top, bottom = np.median(likeness), likeness.min() - 0.5
    stretch = (top - bottom) / gap
    return Domain((weight * stretch).astype(np.float32), float(top - low * stretch))
