"""Answers confined to an area: which cells take part, and where the estimate may lie. Pure."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geofix.aggregate import Cluster
from geofix.area import Area, may_overlap
from geofix.cells import Cells
from geofix.decision import Decision, DecisionRule, SearchPlan, Strategy, plan
from geofix.errors import NotFound, Reason
from geofix.geo import FloatArray
from geofix.posterior import CellScores, Neighbors, signals

MOST_CELLS = 1024
"""Cells that the classifier weighs for such an answer, and that one search takes: the best ones may all lie elsewhere."""
MOST_NEIGHBORS = 1000
"""Neighbours that a search gives at most."""
EDGE_KM = 1e-6
"""A millimetre: a place on the edge of an area stays in it through the rounding of its coordinates."""
AREAS = 256
"""Areas whose cells are remembered."""


class Confinement:
    """Areas over one partition of the Earth. May be used by several threads."""

    def __init__(self, cells: Cells, rule: DecisionRule) -> None:
        self._cells = cells
        self._rule = rule
        self._cells_of = lru_cache(AREAS)(self._find_cells)

    def cells_of(self, area: Area) -> NDArray[np.intp]:
        """The cells that may reach into an area, rising.

        Raises:
            NotFound: SEARCH_AREA_EMPTY; there are none.
        """
        found = self._cells_of(area)
        if not len(found):
            raise _empty("no cell of the model reaches into the search area")
        return found

    def scores(self, area: Area, scores: CellScores) -> CellScores:
        """The scores of the area's cells alone, best first, with the log mixture weights that they have on the whole Earth.

        Where fewer of them were weighed than the rule searches, those not weighed follow, nearest to the best one first; they
        have the least weight of any that was weighed, for theirs is at most that.

        Raises:
            NotFound: SEARCH_AREA_EMPTY.
        """
        allowed = self.cells_of(area)
        weighed = np.flatnonzero(np.isin(scores.cell_id, allowed))
        ids, log_weight = scores.cell_id[weighed], scores.log_weight[weighed]
        if len(weighed) < self._rule.cells:
            others = np.setdiff1d(allowed, scores.cell_id)
            best = self._cells.xyz[ids[0] if len(ids) else scores.cell_id[0]]
            near = others[np.argsort(-(self._cells.xyz[others] @ best), kind="stable")]
            ids = np.concatenate([ids, near])[:MOST_CELLS].astype(np.int32)
            log_weight = np.append(log_weight, np.full(len(ids) - len(weighed), scores.log_weight.min()))
        return dataclasses.replace(scores, cell_id=ids, log_weight=log_weight, xyz=self._cells.xyz[ids])

    def plan(self, area: Area, strategy: Strategy, scores: CellScores) -> SearchPlan:
        """The search that a strategy needs, over what `scores` returned: cells that were not weighed are all searched.

        SWC needs as many neighbours as a search gives, to find the best cell that has any.
        """
        usual = plan(self._rule, strategy, scores)
        cells = usual.cells
        if strategy is Strategy.RETRIEVAL:
            cells = tuple(self.cells_of(area).tolist())
            cells = (
                cells if len(cells) <= MOST_CELLS else ()
            )  # of the whole gallery the search takes the area's images too
        elif usual.k:
            few = len(_weighed(scores)) < self._rule.cells
            cells = tuple(scores.cell_id.tolist()[: None if few else self._rule.cells])
        return SearchPlan(cells, MOST_NEIGHBORS if strategy is Strategy.SWC else usual.k)

    def places(self, area: Area, strategy: Strategy, scores: CellScores, neighbors: Neighbors) -> NDArray[np.intp]:
        """Ranks of the area's neighbours (to its edge's rounding) that the strategy uses; SWC's: the best cell's that has any."""
        inside = np.flatnonzero(area.distance_km(neighbors.xyz) <= EDGE_KM)
        if strategy is Strategy.POSTERIOR:
            return inside[: self._rule.k]
        if strategy is Strategy.SWC and len(inside):
            rank_of = {cell: rank for rank, cell in enumerate(scores.cell_id.tolist())}
            cells = neighbors.cell_id[inside]
            inside = inside[cells == min(cells.tolist(), key=lambda cell: rank_of.get(cell, len(rank_of)))]
        return inside[: self._rule.swc_k]

    def decision(self, area: Area, decision: Decision, scores: CellScores, neighbors: Neighbors) -> Decision:
        """The decision with its estimate, and the means of its clusters, inside the area.

        A mean of neighbours that falls outside (an area need not be convex) gives way to the neighbour nearest to it; the mean of
        the best cell, where it is outside, to that of the best cell whose mean is inside.

        Raises:
            NotFound: SEARCH_AREA_EMPTY; there is no neighbour, and no such cell.
        """
        clusters = tuple(
            Cluster(c.members, _inside(area, c.xyz, neighbors.xyz[list(c.members)])) for c in decision.clusters
        )
        if len(neighbors):
            estimate = _inside(area, decision.xyz, neighbors.xyz)
        else:
            inside = np.flatnonzero(area.distance_km(scores.xyz) <= EDGE_KM)
            if not len(inside):
                raise _empty("neither a gallery image nor the mean of a cell lies in the search area")
            estimate = scores.xyz[inside[0]]
        return dataclasses.replace(
            decision,
            xyz=estimate,
            clusters=clusters,
            signals=signals(estimate, scores, neighbors, decision.weights),
        )

    def _find_cells(self, area: Area) -> NDArray[np.intp]:
        return np.flatnonzero(may_overlap(self._cells, area))


def _weighed(scores: CellScores) -> NDArray[np.intp]:
    return np.flatnonzero(scores.log_weight > scores.log_weight.min())


def _inside(area: Area, mean: FloatArray, places: FloatArray) -> FloatArray:
    """The mean, if it lies in the area; else that of the places, which do, that is nearest to it."""
    if area.distance_km(mean[None])[0] <= EDGE_KM:
        return mean
    return np.asarray(places[int(np.argmax(places @ mean))])


def _empty(message: str) -> NotFound:
    return NotFound(message, Reason.SEARCH_AREA_EMPTY, {"option": "search_area"})
