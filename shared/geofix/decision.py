"""The decision rule: from cell scores and neighbours to one estimate, the clusters behind it and the signals beside it.

Pure numpy, called by the gateway, by the in-process engine and by calibration alike, so that what is measured is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from geofix.aggregate import Cluster, clusters_of
from geofix.geo import FloatArray
from geofix.posterior import CellScores, Kernel, Neighbors, kernel_mode, neighbor_weights, signals


class Strategy(StrEnum):
    """How the estimate is made. Only POSTERIOR, the default, is calibrated."""

    POSTERIOR = "posterior"
    """Several cells; neighbours weighted by log cell weight + similarity / T; the mode of their density."""
    SWC = "swc"
    """The published Search within Cell: the best cell alone; the largest DBSCAN cluster of its best matches."""
    CLASSIFICATION = "classification"
    """The mean of the best mixture component; nothing is retrieved."""
    RETRIEVAL = "retrieval"
    """The whole gallery, whatever the classifier says; the largest DBSCAN cluster of the best matches."""


class Method(StrEnum):
    """Where the estimate came from."""

    CELL_SEARCH = "cell_search"
    """Neighbours found inside the candidate cells."""
    GALLERY_SEARCH = "gallery_search"
    """Neighbours found in the whole gallery."""
    CELL_MEAN = "cell_mean"
    """The best component's mean: nothing was searched, or the candidate cells hold no gallery image."""


class DecisionRule(BaseModel):
    """The constants of a bundle's decision rule, fitted to its gallery."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells: int = Field(20, ge=1, le=1024, description="cells that POSTERIOR searches")
    k: int = Field(100, ge=1, le=1000, description="neighbours that POSTERIOR fetches over those cells")
    temperature: float = Field(0.07, gt=0, description="of similarities, beside log cell weights")
    cell_weight: float = Field(
        1.0,
        ge=0,
        description="of log cell weights beside similarities; less than 1 where the classifier has seen too little",
        exclude_if=lambda value: value == 1,
    )
    mode_scale_km: float = Field(
        200.0, gt=0, description="scale of the exponential kernel whose mode is the estimate, km"
    )
    near_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the kernel that is a narrow one, of scale near_km",
        exclude_if=lambda value: value == 0,
    )
    near_km: float = Field(
        25.0, gt=0, description="scale of that narrow one, km", exclude_if=lambda value: value == 25.0
    )
    refine_km: float = Field(0.0, ge=0, description="width of the mean-shift step after it, km; 0 is none")
    eps_km: float = Field(1.0, gt=0, description="DBSCAN: places at most this far apart are neighbours, km")
    min_samples: int = Field(1, ge=1, description="DBSCAN: neighbours, itself included, that make a core point")
    swc_k: int = Field(10, ge=1, le=1000, description="neighbours that SWC and RETRIEVAL fetch")

    @property
    def kernel(self) -> Kernel:
        """The kernel whose mode is POSTERIOR's estimate."""
        return Kernel(self.mode_scale_km, self.near_share, self.near_km, self.refine_km)


@dataclass(frozen=True)
class SearchPlan:
    """What a strategy needs from the gallery: which cells (empty: all of them) and how many neighbours (0: no search)."""

    cells: tuple[int, ...]
    k: int


@dataclass(frozen=True)
class Decision:
    """An estimate and its evidence.

    Attributes:
        xyz: the estimate, unit vector.
        method: where it came from.
        weights: posterior weight of each neighbour, shape (k,), summing to 1 (empty without neighbours).
        clusters: DBSCAN clusters of the neighbours; POSTERIOR: the heaviest first; others: the largest first.
        signals: see `geofix.posterior.signals`.
    """

    xyz: FloatArray
    method: Method
    weights: FloatArray
    clusters: tuple[Cluster, ...]
    signals: dict[str, float]


def plan(rule: DecisionRule, strategy: Strategy, cells: CellScores) -> SearchPlan:
    """The search that `strategy` needs for an image with these cell scores."""
    match strategy:
        case Strategy.CLASSIFICATION:
            return SearchPlan((), 0)
        case Strategy.RETRIEVAL:
            return SearchPlan((), rule.swc_k)
        case Strategy.SWC:
            return SearchPlan((int(cells.cell_id[0]),), rule.swc_k)
        case Strategy.POSTERIOR:
            return SearchPlan(tuple(int(c) for c in cells.cell_id[: rule.cells]), rule.k)


def decide(rule: DecisionRule, strategy: Strategy, cells: CellScores, neighbors: Neighbors) -> Decision:
    """The estimate of `strategy` from the cell scores and the neighbours that its plan fetched, best match first."""
    if strategy is Strategy.CLASSIFICATION or len(neighbors) == 0:
        empty = np.empty(0)
        estimate = cells.xyz[0]
        return Decision(estimate, Method.CELL_MEAN, empty, (), signals(estimate, cells, neighbors.first(0), empty))
    scores = None if strategy is Strategy.RETRIEVAL else cells
    weights = neighbor_weights(neighbors, scores, rule.temperature, rule.cell_weight)
    clusters = clusters_of(neighbors.xyz, rule.eps_km, rule.min_samples)
    if strategy is Strategy.POSTERIOR:
        estimate = kernel_mode(neighbors.xyz, weights, rule.kernel)
        weight = weights.tolist()
        clusters.sort(key=lambda c: (-sum(weight[rank] for rank in c.members), c.best_rank))
    else:
        estimate = clusters[0].xyz if clusters else neighbors.xyz[0]
    method = Method.GALLERY_SEARCH if strategy is Strategy.RETRIEVAL else Method.CELL_SEARCH
    return Decision(estimate, method, weights, tuple(clusters), signals(estimate, cells, neighbors, weights))
