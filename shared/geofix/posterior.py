"""From cell weights and neighbours to a distribution over the neighbours' places, and what it says about its own error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.geo import FloatArray, distance_km, distances_between, normalise
from geofix.mvmf import log_softmax

DENSITY_RADIUS_KM = 25.0
"""Radius of the published prediction density: the mass of the cells whose means lie this close to the best cell's mean."""


@dataclass(frozen=True)
class CellScores:
    """The best m cells of one image, best first, and what the classifier says about all of them.

    Attributes:
        cell_id: shape (m,).
        log_weight: natural log of the mixture weights, shape (m,); their exponentials sum to at most 1.
        xyz: the components' means, unit vectors, shape (m, 3).
        entropy: of all mixture weights, nats.
        prediction_density: mass of the cells within 25 km of the best cell's mean, 0 to 1.
        domain_score: how much the image is like the training images; higher is more alike.
    """

    cell_id: NDArray[np.int32]
    log_weight: FloatArray
    xyz: FloatArray
    entropy: float
    prediction_density: float
    domain_score: float

    @classmethod
    def best_of(cls, log_weights: FloatArray, means: FloatArray, domain_score: float, count: int) -> CellScores:
        """The best `count` of all n cells: log mixture weights, shape (n,), and means, shape (n, 3)."""
        order = np.argsort(-log_weights, kind="stable")[:count]
        weights = np.exp(log_weights)
        entropy = float(-(weights * np.where(weights > 0, log_weights, 0.0)).sum())
        density = prediction_density(weights, means)
        return cls(order.astype(np.int32), log_weights[order], means[order], entropy, density, domain_score)


@dataclass(frozen=True)
class Neighbors:
    """Gallery images found, best match first: cell ids (k,), unit vectors (k, 3), cosine similarities (k,)."""

    cell_id: NDArray[np.int32]
    xyz: FloatArray
    similarity: FloatArray

    def __len__(self) -> int:
        return len(self.similarity)

    def first(self, count: int) -> Neighbors:
        """The best `count` of them."""
        return Neighbors(self.cell_id[:count], self.xyz[:count], self.similarity[:count])


def prediction_density(weights: FloatArray, means: FloatArray, radius_km: float = DENSITY_RADIUS_KM) -> float:
    """Mass of the cells whose means lie within `radius_km` of the mean of the heaviest cell (paper, prediction density)."""
    near = distance_km(means, means[int(np.argmax(weights))]) <= radius_km
    return float(weights[near].sum())


def neighbor_weights(
    neighbors: Neighbors, cells: CellScores | None, temperature: float, cell_weight: float = 1.0
) -> FloatArray:
    """Posterior weight of each neighbour, shape (k,), summing to 1.

    Softmax of cell_weight · log weight of its cell + similarity / temperature. Without cell scores (`cells` None) only the
    similarity counts; a neighbour whose cell is not among them has the least of their weights.
    """
    logits = neighbors.similarity / temperature
    if cells is not None:
        by_cell = dict(zip(cells.cell_id.tolist(), cells.log_weight.tolist(), strict=True))
        worst = float(cells.log_weight.min())
        logits = logits + cell_weight * np.array([by_cell.get(int(cell), worst) for cell in neighbors.cell_id])
    return np.exp(log_softmax(logits))


@dataclass(frozen=True)
class Kernel:
    """Which places speak for one another: (1 − near_share)·exp(−d / scale_km) + near_share·exp(−d / near_km).

    The wide part finds the region, the narrow one the place in it. With `refine_km` > 0 the mode then moves to the weighted
    mean of its surroundings (one mean-shift step with a Gaussian kernel), so that it is not tied to the gallery's spacing.
    """

    scale_km: float
    near_share: float = 0.0
    near_km: float = 25.0
    refine_km: float = 0.0

    def __call__(self, distances: FloatArray) -> FloatArray:
        """Of distances in km, of any shape."""
        wide = np.exp(-distances / self.scale_km)
        if not self.near_share:
            return wide
        return (1 - self.near_share) * wide + self.near_share * np.exp(-distances / self.near_km)


def kernel_mode(
    xyz: FloatArray, weights: FloatArray, kernel: Kernel, distances: FloatArray | None = None
) -> FloatArray:
    """The candidate of n, unit vectors (n, 3) with weights (n,), that maximises Σ w·kernel(d); a unit vector of shape (3,).

    `distances`, of `distances_between`, are computed where they are not given.
    """
    distances = distances_between(xyz) if distances is None else distances
    best = int(np.argmax(kernel(distances) @ weights))
    if kernel.refine_km <= 0:
        return np.asarray(xyz[best])
    near = weights * np.exp(-0.5 * (distances[best] / kernel.refine_km) ** 2)
    return normalise(near @ xyz)


def signals(estimate: FloatArray, cells: CellScores, neighbors: Neighbors, weights: FloatArray) -> dict[str, float]:
    """What predicts the error of an estimate (unit vector): the inputs of calibration and of the localizability gate.

    Keys: `domain_score`, `entropy` (nats), `log_top_weight`, `prediction_density`; `log_cell_spread`: log of 1 km + the
    mean distance of the cells' mass from the estimate; and, 0 where there is no neighbour: `top_similarity`,
    `mean_similarity` (best 10), `log_spread`: log of 1 km + the posterior mean distance of the neighbours from the
    estimate; `mass_200km`: posterior mass of the neighbours within 200 km of it.
    """
    mass = np.exp(cells.log_weight)
    cell_spread = float((mass * distance_km(cells.xyz, estimate)).sum() / mass.sum())
    out = {
        "domain_score": cells.domain_score,
        "entropy": cells.entropy,
        "log_top_weight": float(cells.log_weight[0]),
        "prediction_density": cells.prediction_density,
        "log_cell_spread": float(np.log1p(cell_spread)),
        "top_similarity": 0.0,
        "mean_similarity": 0.0,
        "log_spread": 0.0,
        "mass_200km": 0.0,
    }
    if len(neighbors):
        away = distance_km(neighbors.xyz, estimate)
        out |= {
            "top_similarity": float(neighbors.similarity[0]),
            "mean_similarity": float(neighbors.similarity[:10].mean()),
            "log_spread": float(np.log1p((weights * away).sum())),
            "mass_200km": float(weights[away <= 200.0].sum()),
        }
    return out
