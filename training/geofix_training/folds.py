"""Folds of a collection: whole groups, as even in their numbers of images as the groups let them be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
