"""Backbone statistics to a compact feature: standardised and whitened by principal components, as one linear map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLIP = 8.0
"""Standard deviations beyond which a statistic is clipped, so that one dead pixel pattern cannot fill a feature."""


@dataclass(frozen=True)
class Reduction:
    """feature = clip((raw − mean) / scale, ±CLIP) @ matrix; shapes (r,), (r,), (r, d); features of the crops are white."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __call__(self, raw: NDArray[np.float16]) -> NDArray[np.float32]:
        """Features, (n, d), of statistics, (n, r)."""
        parts = np.array_split(raw, max(1, len(raw) // 8192))
        return np.concatenate([self._standardised(part) @ self.matrix for part in parts])

    def _standardised(self, raw: NDArray[np.float16]) -> NDArray[np.float32]:
        return np.asarray(np.clip((raw.astype(np.float32) - self.mean) / self.scale, -CLIP, CLIP), np.float32)


def fit_reduction(raw: NDArray[np.float16], dim: int, seed: int, rows: int = 30_000) -> Reduction:
    """Fit on at most `rows` random rows of raw statistics, (n, r)."""
    rng = np.random.default_rng(seed)
    sample = raw[np.sort(rng.permutation(len(raw))[:rows])].astype(np.float32)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    scale = np.maximum(deviation, 1e-3 * float(np.median(deviation)) + 1e-6)
    standard = np.clip((sample - mean) / scale, -CLIP, CLIP)
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    top = np.argsort(values)[::-1][:dim]
    matrix = vectors[:, top] / np.sqrt(values[top] + 1e-3 * values[top[0]] / len(top))
    return Reduction(mean, scale, matrix.astype(np.float32))
