"""Folds of a collection, whole groups as even in their numbers of images as the groups let them be, and what they answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.calibration import SIGNALS
from geofix.geo import FloatArray

BASELINE = "plain"
"""Nearest neighbour over the standardised means of the first network's last layer: what it knows untaught."""
WHOLE = "posterior, whole collection"
"""Where a gallery holds only what may be published: the default with all images in it, as the baseline has."""


@dataclass(frozen=True)
class FoldAnswers:
    """What all folds answered.

    Attributes:
        rows: of the collection, (n,).
        fold: of each, (n,).
        error_km: strategy -> errors, (n,).
        signals: by `SIGNALS`, (n, s).
        seconds: that training and answering took, over all runs.
    """

    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    error_km: dict[str, FloatArray]
    signals: FloatArray
    seconds: float

    def signal_maps(self) -> list[dict[str, float]]:
        """The signals by their names."""
        return [dict(zip(SIGNALS, row, strict=True)) for row in self.signals.tolist()]


def assign_folds(group: NDArray[np.uint64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, shape (n,): groups from the largest on, ties at random, each to the fold that has least so far."""
    names, of_row, counts = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    load, fold = np.zeros(folds, np.int64), np.zeros(len(names), np.int64)
    for name in order:
        fold[name] = int(np.argmin(load))
        load[fold[name]] += counts[name]
    return fold[of_row]
