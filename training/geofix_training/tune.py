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
    for cells in (10, 20, 40):
        trial = start.model_copy(update={"cells": cells})
        found = list(_found(engine, heads, [plan(trial, Strategy.POSTERIOR, head.cells) for head in heads]))
        distances = [distances_between(n.xyz) for n in found]
        for temperature in (0.01, 0.015, 0.02, 0.03, 0.05):
            weights = [
                neighbor_weights(n, h.cells, temperature, start.cell_weight) for n, h in zip(found, heads, strict=True)
            ]
            for scale, refine in product((100.0, 200.0, 400.0, 800.0), (0.0, 120.0, 240.0)):
                values = {"temperature": temperature, "mode_scale_km": scale, "refine_km": refine}
                rule = trial.model_copy(update=values)
                places = [
                    kernel_mode(n.xyz, w, rule.kernel, d) for n, w, d in zip(found, weights, distances, strict=True)
                ]
                score = float(np.exp(-distance_km(np.stack(places), truth) / SCORE_SCALE_KM).mean())
                if score > best_score:
                    best_score, best = score, rule
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
