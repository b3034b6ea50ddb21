"""The paper's configurations and variants of ours, over the same images: which part earns what.

A variant is the search that it needs and what it makes of the neighbours; the networks run once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geofix.aggregate import clusters_of
from geofix.decision import DecisionRule, Strategy, decide, plan
from geofix.geo import FloatArray
from geofix.local import Heads, LocalEngine

EVERYWHERE = 0
"""Cells of a variant that searches the whole gallery."""


@dataclass(frozen=True)
class Variant:
    """A configuration: its name, what kind it is (`paper` or `ours`), and its estimate, a unit vector."""

    name: str
    kind: str
    estimate: Callable[[LocalEngine, Heads], FloatArray]


def variants(rule: DecisionRule) -> list[Variant]:
    """The bundle's own rule first, then the paper's configurations, then ours with one part changed at a time."""
    found = [_ours("default", rule), Variant("classification", "paper", lambda _engine, heads: heads.cells.xyz[0])]
    found.append(_swc("retrieval, whole gallery, k 1", EVERYWHERE, 1, 1.0))
    found.append(_swc("retrieval, whole gallery, k 10, eps 1 km", EVERYWHERE, 10, 1.0))
    found += [_swc(f"SwC, 1 cell, k {k}, eps 1 km", 1, k, 1.0) for k in (10, 1, 5, 20, 50)]
    found += [_swc(f"SwC, 1 cell, k 10, eps {eps:g} km", 1, 10, eps) for eps in (0.1, 25.0, 200.0)]
    found += [_swc(f"SwC, {cells} cells, k 10, eps 1 km", cells, 10, 1.0) for cells in (2, 5, 20)]
    found.append(_swc("SwC, 5 cells, k 10, eps 200 km", 5, 10, 200.0))
    changes: dict[str, dict[str, float]] = {
        "ours, 1 cell": {"cells": 1},
        "ours, 5 cells": {"cells": 5},
        "ours, k 10": {"k": 10},
        "ours, half the temperature": {"temperature": rule.temperature / 2},
        "ours, twice the temperature": {"temperature": rule.temperature * 2},
        "ours, a kernel of 1 km": {"mode_scale_km": 1.0},
        "ours, a kernel of 1,493 km (GeoScore's)": {"mode_scale_km": 1492.7},
        "ours, without refinement": {"refine_km": 0.0},
    }
    return found + [_ours(name, rule.model_copy(update=change)) for name, change in changes.items()]


def _swc(name: str, cells: int, k: int, eps_km: float) -> Variant:
    """The largest DBSCAN cluster of the k best matches in the best cells (published: 1 cell, k 10, eps 1 km)."""

    def estimate(engine: LocalEngine, heads: Heads) -> FloatArray:
        searched = tuple(int(cell) for cell in heads.cells.cell_id[:cells])
        _, neighbors = engine.gallery.search(heads.embedding, searched, k)
        return clusters_of(neighbors.xyz, eps_km)[0].xyz if len(neighbors) else heads.cells.xyz[0]

    return Variant(name, "paper", estimate)


def _ours(name: str, rule: DecisionRule) -> Variant:
    def estimate(engine: LocalEngine, heads: Heads) -> FloatArray:
        search = plan(rule, Strategy.POSTERIOR, heads.cells)
        _, neighbors = engine.gallery.search(heads.embedding, search.cells, search.k)
        return np.asarray(decide(rule, Strategy.POSTERIOR, heads.cells, neighbors).xyz)

    return Variant(name, "ours", estimate)
