"""Backbone statistics to a compact feature: white principal components, and how much of the statistics they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLIP = 8.0
"""Standard deviations beyond which a statistic is clipped, so that one dead pixel pattern cannot fill a feature."""

_CENTRED = 3
"""Passes after which what is clipped has a mean of zero (Huber 1964): clipping moves the mean of what is skewed."""

ENERGY_EXPONENT = 0.7
"""How far a large reconstruction error is excused by large energy, as of a crop that is mostly deep sea: as far as it can be
before crops of the two photographs that ship with scikit-learn begin to pass."""


@dataclass(frozen=True)
class Reduction:
    """With s = clip((raw − mean) / scale, ±CLIP): feature = (s @ matrix, strangeness).

    The components of the fitted crops have unit variance. Strangeness is the log of the energy of s outside the components (the
    reconstruction error of principal component analysis) less ENERGY_EXPONENT times the log of its whole energy. It tells
    images unlike those crops: their statistics vary in directions in which the crops' do not.

    Attributes:
        mean: shape (r,).
        scale: shape (r,).
        matrix: components over their deviations, shape (r, d).
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @property
    def deviation(self) -> NDArray[np.float32]:
        """Standard deviation of each component before whitening, shape (d,)."""
        return np.asarray(1.0 / np.linalg.norm(self.matrix, axis=0), np.float32)

    def __call__(self, raw: NDArray[np.float16]) -> NDArray[np.float32]:
        """Features, (n, d + 1), of statistics, (n, r)."""
        parts = np.array_split(raw, max(1, len(raw) // 8192))
        return np.concatenate([self._feature(part) for part in parts])

    def _feature(self, raw: NDArray[np.float16]) -> NDArray[np.float32]:
        standard = np.clip((raw.astype(np.float32) - self.mean) / self.scale, -CLIP, CLIP)
        white = standard @ self.matrix
        energy = (standard**2).sum(axis=1)
        left = energy - ((white * self.deviation) ** 2).sum(axis=1)
        strangeness = np.log(np.maximum(left, 1e-3)) - ENERGY_EXPONENT * np.log(np.maximum(energy, 1e-3))
        return np.asarray(np.column_stack([white, strangeness]), np.float32)


def fit_reduction(
    sources: Sequence[NDArray[np.float16]], dim: int, seed: int, rows: int = 32_000, clip: float = CLIP
) -> Reduction:
    """Fit on random rows of raw statistics, (n, r): at most `rows`, from each source in proportion to its size.

    Beyond `clip` standard deviations a statistic is clipped.
    """
    rng = np.random.default_rng(seed)
    share = min(1.0, rows / sum(map(len, sources)))
    chosen = [raw[np.sort(rng.permutation(len(raw))[: int(share * len(raw))])] for raw in sources]
    sample = np.concatenate(chosen).astype(np.float32)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    scale = np.maximum(deviation, 1e-3 * float(np.median(deviation)) + 1e-6)
    standard = np.clip((sample - mean) / scale, -clip, clip)
    for _ in range(_CENTRED):
        mean = mean + scale * standard.mean(axis=0)
        standard = np.clip((sample - mean) / scale, -clip, clip)
    if len(standard) < standard.shape[1]:  # the covariance has no higher rank than there are rows
        _, singular, rows_of = np.linalg.svd(standard, full_matrices=False)
        values, vectors = singular**2 / len(standard), rows_of.T
    else:
        values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    top = np.argsort(values)[::-1][:dim]
    matrix = vectors[:, top] / np.sqrt(values[top] + 1e-3 * values[top[0]] / len(top))
    return Reduction(mean, scale, matrix.astype(np.float32))
