"""A probability density over the Earth: where else an image may be from, as S2 cells with probabilities.

The density is a mixture of von Mises-Fisher distributions: the classifier's components by their weights, and one around each
neighbour by its posterior weight (log cell weight + similarity / T, so the product of both), shares `CELLS_SHARE` and the rest;
`ANYWHERE` of it is uniform. Each is stood for by points at equal steps of its mass; the cells are split where the mass is.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import s2cell
from numpy.typing import NDArray

from geofix.geo import EARTH_RADIUS_KM, FloatArray, xyz_to_latlon
from geofix.posterior import CellScores
from geofix.s2 import leaf_ids

CELLS_SHARE = 0.3
"""Share of the classifier's components; see docs/confidence.md for how it was chosen."""
ANYWHERE = 0.02
NEIGHBOR_KM = 100.0
"""Spread of the distribution around a neighbour."""
FINEST = 7
"""The finest level of a cell: some 72 km, below the spread around a neighbour."""
_POINTS = 128
_UNIFORM_POINTS = 4096
_GOLDEN = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True)
class DensityCell:
    """An S2 cell and the probability that the image was taken in it."""

    s2_token: str
    probability: float


def density_cells(
    cells: CellScores, kappa: FloatArray, xyz: FloatArray, weights: FloatArray, max_cells: int
) -> list[DensityCell]:
    """At most `max_cells` (6 at least) disjoint S2 cells that hold all of the density, the most probable first.

    Args:
        cells: the classifier's best cells, m of them.
        kappa: their concentrations, natural scale, (m,).
        xyz: places of the neighbours, unit vectors, (k, 3); k may be 0.
        weights: their posterior weights, summing to 1, (k,).
        max_cells: how many there may be.
    """
    places, mass = _points(cells, kappa, xyz, weights)
    leaves = leaf_ids(*xyz_to_latlon(places))
    order = np.argsort(leaves)
    leaves, total = leaves[order], np.concatenate([[0.0], np.cumsum(mass[order])])

    def entry(s2_id: int) -> tuple[float, int]:
        reach = (s2_id & -s2_id) - 1
        start = np.searchsorted(leaves, np.uint64(s2_id - reach), "left")
        end = np.searchsorted(leaves, np.uint64(s2_id + reach), "right")
        return -float(total[end] - total[start]), s2_id

    queue = [entry((face << 61) + (1 << 60)) for face in range(6)]
    heapq.heapify(queue)
    done: list[tuple[float, int]] = []
    while queue and len(queue) + len(done) + 3 <= max_cells:
        heaviest = heapq.heappop(queue)
        if s2cell.cell_id_to_level(heaviest[1]) >= FINEST:
            done.append(heaviest)
            continue
        step = (heaviest[1] & -heaviest[1]) >> 2
        for child in range(4):
            heapq.heappush(queue, entry(heaviest[1] + (2 * child - 3) * step))
    found = sorted([*queue, *done])
    return [DensityCell(s2cell.cell_id_to_token(s2_id), -negative) for negative, s2_id in found if negative < 0]


def _points(
    cells: CellScores, kappa: FloatArray, xyz: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Unit vectors (p, 3) and their masses (p,), which sum to 1."""
    mixture = np.exp(cells.log_weight)
    share = 1.0 if len(weights) == 0 else CELLS_SHARE
    means = np.concatenate([cells.xyz, xyz.reshape(-1, 3)])
    around = np.full(len(weights), (EARTH_RADIUS_KM / NEIGHBOR_KM) ** 2)
    mass = np.concatenate([share * mixture / mixture.sum(), (1 - share) * weights]) * (1 - ANYWHERE)
    places = _spirals(means, np.concatenate([kappa, around]))
    uniform = _spirals(np.array([[0.0, 0.0, 1.0]]), np.array([1e-9]), _UNIFORM_POINTS)
    masses = [np.repeat(mass / _POINTS, _POINTS), np.full(_UNIFORM_POINTS, ANYWHERE / _UNIFORM_POINTS)]
    return np.concatenate([places, uniform]), np.concatenate(masses)


def _spirals(means: FloatArray, kappa: FloatArray, points: int = _POINTS) -> NDArray[np.float64]:
    """`points` places at equal steps of the mass of each vMF, (n · points, 3), on a golden spiral around its mean."""
    u = (np.arange(points) + 0.5) / points
    # The distribution function of t = 1 − cos of the angle is (1 − e^(−κt)) / (1 − e^(−2κ)).
    t = -np.log1p(u[None, :] * np.expm1(-2 * kappa[:, None])) / kappa[:, None]
    sine = np.sqrt(np.clip(t * (2 - t), 0, None))
    turn = _GOLDEN * np.arange(points)[None, :]
    away = np.where(np.abs(means[:, 2:3]) < 0.9, np.array([[0.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0]]))
    east = np.cross(away, means)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(means, east)
    around = np.cos(turn)[..., None] * east[:, None, :] + np.sin(turn)[..., None] * north[:, None, :]
    return np.asarray(((1 - t)[..., None] * means[:, None, :] + sine[..., None] * around).reshape(-1, 3))
