"""What each strategy asks of the gallery, and what it makes of what it gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from geofix.decision import DecisionRule, Method, SearchPlan, Strategy, decide, plan
from geofix.geo import distance_km, haversine_km, latlon_to_xyz, normalise, xyz_to_latlon
from geofix.posterior import CellScores, Neighbors

RULE = DecisionRule(
    cells=2, k=7, temperature=0.07, mode_scale_km=100.0, refine_km=0.0, eps_km=50.0, min_samples=1, swc_k=3
)
CELLS = CellScores.best_of(
    np.log(np.array([0.1, 0.6, 0.3])), latlon_to_xyz([0.0, 40.0, -20.0], [0.0, 10.0, 100.0]), 1.0, 64
)
NOTHING = Neighbors(np.empty(0, np.int32), np.empty((0, 3)), np.empty(0))
# Two neighbours near (40, 10) in the best cell, and the best match alone in another.
FOUND = Neighbors(
    np.array([2, 1, 1], np.int32), latlon_to_xyz([-20.0, 40.1, 40.2], [100.0, 10.0, 10.0]), np.array([0.9, 0.89, 0.88])
)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.CLASSIFICATION, SearchPlan((), 0)),
        (Strategy.RETRIEVAL, SearchPlan((), 3)),
        (Strategy.SWC, SearchPlan((1,), 3)),
        (Strategy.POSTERIOR, SearchPlan((1, 2), 7)),
    ],
)
def test_the_search_that_a_strategy_needs(strategy: Strategy, expected: SearchPlan) -> None:
    assert plan(RULE, strategy, CELLS) == expected


@pytest.mark.parametrize("strategy", Strategy)
def test_without_neighbours_the_answer_is_the_best_cells_mean(strategy: Strategy) -> None:
    decision = decide(RULE, strategy, CELLS, NOTHING)
    assert decision.method is Method.CELL_MEAN
    assert decision.xyz == pytest.approx(CELLS.xyz[0])
    assert decision.clusters == ()
    assert len(decision.weights) == 0


def test_classification_ignores_neighbours() -> None:
    decision = decide(RULE, Strategy.CLASSIFICATION, CELLS, FOUND)
    assert decision.method is Method.CELL_MEAN
    assert decision.xyz == pytest.approx(CELLS.xyz[0])
    assert decision.signals["top_similarity"] == 0


def test_swc_takes_the_largest_cluster() -> None:
    decision = decide(RULE, Strategy.SWC, CELLS, FOUND)
    assert decision.method is Method.CELL_SEARCH
    assert float(haversine_km(*xyz_to_latlon(decision.xyz), 40.15, 10.0)) < 0.1
    assert [cluster.members for cluster in decision.clusters] == [(1, 2), (0,)]


def test_retrieval_weighs_by_similarity_alone() -> None:
    decision = decide(RULE, Strategy.RETRIEVAL, CELLS, FOUND)
    assert decision.method is Method.GALLERY_SEARCH
    assert np.diff(np.log(decision.weights)) == pytest.approx(np.diff(FOUND.similarity) / RULE.temperature)


def test_posterior_orders_clusters_by_weight() -> None:
    far_ahead = Neighbors(FOUND.cell_id, FOUND.xyz, np.array([0.9, 0.3, 0.2]))
    decision = decide(RULE, Strategy.POSTERIOR, CELLS, far_ahead)
    assert [cluster.members for cluster in decision.clusters] == [(0,), (1, 2)]
    assert decision.xyz == pytest.approx(FOUND.xyz[0])
    assert decision.weights.sum() == pytest.approx(1)


def test_posterior_answers_where_everything_is_noise() -> None:
    strict = RULE.model_copy(update={"min_samples": 3})
    decision = decide(strict, Strategy.POSTERIOR, CELLS, FOUND)
    assert decision.clusters == ()
    assert decision.method is Method.CELL_SEARCH
    assert decide(strict, Strategy.SWC, CELLS, FOUND).xyz == pytest.approx(FOUND.xyz[0])


@pytest.mark.parametrize("strategy", Strategy)
def test_a_single_neighbour_is_enough(strategy: Strategy) -> None:
    decision = decide(RULE, strategy, CELLS, FOUND.first(1))
    assert np.linalg.norm(decision.xyz) == pytest.approx(1)
    assert all(np.isfinite(list(decision.signals.values())))


@pytest.mark.parametrize("wrong", [{"cells": 0}, {"temperature": 0.0}, {"eps_km": -1.0}, {"k": 1001}, {"unknown": 1}])
def test_a_rule_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DecisionRule.model_validate(RULE.model_dump() | wrong)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from(list(Strategy)), st.integers(1, 60))
def test_every_answer_turns_with_the_sphere(seed: int, strategy: Strategy, count: int) -> None:
    """No pole and no antimeridian: turn all places, and estimate, clusters and signals are the same, turned."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    means = normalise(rng.normal(size=(5, 3)))
    places = normalise(means[rng.integers(0, 5, count)] + 0.02 * rng.normal(size=(count, 3)))
    cell_id, similarity = rng.integers(0, 5, count).astype(np.int32), np.sort(rng.uniform(0, 1, count))[::-1]
    rule = RULE.model_copy(update={"refine_km": 80.0})
    log_weights = np.log(rng.dirichlet(np.ones(5)))
    answers = [
        decide(rule, strategy, CellScores.best_of(log_weights, m, 0.0, 64), Neighbors(cell_id, p, similarity))
        for m, p in ((means, places), (means @ turn.T, places @ turn.T))
    ]
    one, turned = answers
    assert float(distance_km(one.xyz @ turn.T, turned.xyz)) < 1e-3
    assert [c.members for c in one.clusters] == [c.members for c in turned.clusters]
    assert list(turned.signals.values()) == pytest.approx(list(one.signals.values()), abs=1e-6)
