"""The constants of the decision rule, chosen on held-out crops; and the answers that calibration is fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product, repeat

import numpy as np

from geofix.aggregate import clusters_of
from geofix.decision import Decision, DecisionRule, SearchPlan, Strategy, decide, plan
from geofix.geo import FloatArray, distance_km, distances_between, latlon_to_xyz
from geofix.local import NO_NEIGHBORS, Heads, LocalEngine
from geofix.posterior import Neighbors, kernel_mode, neighbor_weights

SCORE_SCALE_KM = 300.0
"""An estimate d km off scores exp(−d / this): the middle of the distances that matter."""
CELLS = (10, 20, 40)
TEMPERATURES = (0.01, 0.015, 0.02, 0.03, 0.05)
MODE_SCALES_KM = (100.0, 200.0, 400.0, 800.0)
REFINEMENTS_KM = (0.0, 120.0, 240.0)


@dataclass(frozen=True)
class Answers:
    """Decisions with their errors in km, shape (n,)."""

    decisions: list[Decision]
    error_km: FloatArray

    def within(self, radius_km: float) -> float:
        """Share of errors up to `radius_km`."""
        return float((self.error_km <= radius_km).mean())


def answer(
    engine: LocalEngine, heads: list[Heads], truth: FloatArray, rule: DecisionRule, strategy: Strategy
) -> Answers:
    """The answers of a rule over classified images with true places, unit vectors (n, 3)."""
    searches = [plan(rule, strategy, head.cells) for head in heads]
    found = _found(engine, heads, searches)
    decisions = [decide(rule, strategy, h.cells, neighbors) for h, neighbors in zip(heads, found, strict=True)]
    errors = distance_km(np.stack([d.xyz for d in decisions]), truth)
    return Answers(decisions, errors)


def tune(
    engine: LocalEngine, heads: list[Heads], lat: FloatArray, lon: FloatArray, start: DecisionRule
) -> DecisionRule:
    """The rule with the best mean score over held-out images, then the smallest eps that groups neighbours."""
    truth = latlon_to_xyz(lat, lon)
    best_score, best = -1.0, start
    for cells in CELLS:
        rules = [
            start.model_copy(
                update={"cells": cells, "temperature": temperature, "mode_scale_km": scale_km, "refine_km": refine_km}
            )
            for temperature, scale_km, refine_km in product(TEMPERATURES, MODE_SCALES_KM, REFINEMENTS_KM)
        ]
        found = _found(engine, heads, [plan(rules[0], Strategy.POSTERIOR, head.cells) for head in heads])
        scores = np.zeros(len(rules))
        # An image at a time: the distances between its neighbours take 8 · k² bytes.
        for head, neighbors, place in zip(heads, found, truth, strict=True):
            distances = distances_between(neighbors.xyz)
            weights = {t: neighbor_weights(neighbors, head.cells, t, start.cell_weight) for t in TEMPERATURES}
            modes = [kernel_mode(neighbors.xyz, weights[rule.temperature], rule.kernel, distances) for rule in rules]
            scores += np.exp(-distance_km(np.stack(modes), place) / SCORE_SCALE_KM)
        if scores.max() > best_score:
            best_score, best = float(scores.max()), rules[int(scores.argmax())]
    return best.model_copy(update={"eps_km": _eps(engine, heads, best)})


def _found(engine: LocalEngine, heads: list[Heads], searches: list[SearchPlan]) -> Iterator[Neighbors]:
    """The neighbours that searches of one strategy find, for each image its own."""
    k = searches[0].k
    if not k:
        return repeat(NO_NEIGHBORS, len(heads))
    embeddings = np.stack([head.embedding for head in heads])
    return engine.gallery.search_each(embeddings, [search.cells for search in searches], k)


def _eps(engine: LocalEngine, heads: list[Heads], rule: DecisionRule) -> float:
    """The smallest eps with which most answers have a cluster of three: smaller says nothing, larger chains continents."""
    sample = heads[:300]
    neighbors = list(_found(engine, sample, [plan(rule, Strategy.POSTERIOR, head.cells) for head in sample]))
    for eps_km in (40.0, 60.0, 80.0, 100.0, 130.0, 160.0):
        largest = [
            max(len(c.members) for c in clusters_of(n.xyz, eps_km, rule.min_samples)) for n in neighbors if len(n)
        ]
        if np.mean(np.array(largest) >= 3) >= 0.9:
            return eps_km
    return 160.0
