"""Answers confined to an area: which cells take part, and where the estimate lies."""

from __future__ import annotations

import numpy as np
import pytest

from bundle_factory import RULE, make_bundle
from geofix.area import Area, Box, Circle, may_overlap
from geofix.bundle import Bundle
from geofix.decision import Method, Strategy, decide
from geofix.errors import NotFound, Reason
from geofix.geo import destination, haversine_km, latlon_to_xyz, xyz_to_latlon
from geofix.posterior import CellScores, Neighbors
from geofix_gateway.confine import MOST_CELLS, Confinement

EUROPE, TASMANIA = Circle(48.0, 11.0, 800_000), Circle(-42.0, 147.0, 300_000)
NONE = Neighbors(np.empty(0, np.int32), np.empty((0, 3)), np.empty(0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def scores_at(bundle: Bundle, lat: float, lon: float, count: int = MOST_CELLS) -> CellScores:
    towards = 12.0 * bundle.cells.xyz @ latlon_to_xyz(lat, lon)
    return CellScores.best_of(towards - np.log(np.exp(towards).sum()), bundle.cells.xyz, 1.0, count)


@pytest.mark.parametrize("area", [EUROPE, TASMANIA, Box(-20, 170, -10, -170), Box(-90, -180, -80, 180)], ids=str)
def test_only_cells_that_may_reach_into_the_area_take_part_with_their_own_weights(bundle: Bundle, area: Area) -> None:
    whole = scores_at(bundle, 48.0, 11.0)
    inside = Confinement(bundle.cells, RULE).scores(area, whole)
    assert set(inside.cell_id.tolist()) == set(np.flatnonzero(may_overlap(bundle.cells, area)).tolist())
    weight = dict(zip(whole.cell_id.tolist(), whole.log_weight.tolist(), strict=True))
    assert inside.log_weight.tolist() == [weight[cell] for cell in inside.cell_id.tolist()]
    assert inside.log_weight.tolist() == sorted(inside.log_weight.tolist(), reverse=True)
    np.testing.assert_array_equal(inside.xyz, bundle.cells.xyz[inside.cell_id])
    assert (inside.entropy, inside.domain_score) == (whole.entropy, whole.domain_score)


def test_cells_that_the_classifier_did_not_weigh_follow_with_the_least_weight(bundle: Bundle) -> None:
    few = scores_at(bundle, 48.0, 11.0, count=3)
    confinement = Confinement(bundle.cells, RULE)
    inside = confinement.scores(TASMANIA, few)
    assert not np.isin(inside.cell_id, few.cell_id).any()
    assert set(inside.cell_id.tolist()) == set(confinement.cells_of(TASMANIA).tolist())
    assert set(inside.log_weight.tolist()) == {float(few.log_weight.min())}
    search = confinement.plan(TASMANIA, Strategy.POSTERIOR, inside)
    assert set(search.cells) == set(inside.cell_id.tolist())


def test_strategies_search_inside(bundle: Bundle) -> None:
    confinement = Confinement(bundle.cells, RULE)
    inside = confinement.scores(EUROPE, scores_at(bundle, -30.0, 140.0))
    best = tuple(inside.cell_id.tolist())
    assert len(best) > RULE.cells
    assert confinement.plan(EUROPE, Strategy.POSTERIOR, inside).cells == best[: RULE.cells]
    assert (
        confinement.plan(EUROPE, Strategy.SWC, inside).cells == best[: RULE.cells]
    )  # the best may hold nothing inside
    assert set(confinement.plan(EUROPE, Strategy.RETRIEVAL, inside).cells) == set(best)
    assert confinement.plan(EUROPE, Strategy.CLASSIFICATION, inside).k == 0


def test_neighbours_outside_are_left_out(bundle: Bundle) -> None:
    lat, lon = np.array([48.0, 60.0, 47.0, -42.0]), np.array([11.0, 11.0, 10.0, 147.0])
    found = Neighbors(np.zeros(4, np.int32), latlon_to_xyz(lat, lon), np.array([0.9, 0.8, 0.7, 0.6]))
    confinement, scores = Confinement(bundle.cells, RULE), scores_at(bundle, 48.0, 11.0)
    assert confinement.places(EUROPE, Strategy.POSTERIOR, scores, found).tolist() == [0, 2]
    edge = destination(48.0, 11.0, np.arange(0, 360, 30), 800.0)
    on_it = Neighbors(np.zeros(12, np.int32), latlon_to_xyz(*edge), np.ones(12))
    assert len(confinement.places(EUROPE, Strategy.POSTERIOR, scores, on_it)) == 12


def test_swc_takes_the_best_cell_that_has_an_image_inside(bundle: Bundle) -> None:
    scores = scores_at(bundle, 48.0, 11.0)
    best, second, third = scores.cell_id[:3].tolist()
    lat, lon = np.array([48.0, 48.1, 47.0, 60.0]), np.array([11.0, 11.0, 10.0, 11.0])
    cells = np.array([third, second, second, best], np.int32)  # the best cell's image lies outside
    found = Neighbors(cells, latlon_to_xyz(lat, lon), np.array([0.9, 0.8, 0.7, 0.6]))
    assert Confinement(bundle.cells, RULE).places(EUROPE, Strategy.SWC, scores, found).tolist() == [1, 2]


@pytest.mark.parametrize("strategy", [Strategy.POSTERIOR, Strategy.SWC, Strategy.RETRIEVAL])
def test_an_estimate_between_two_ends_of_the_area_gives_way_to_the_nearest_neighbour(
    bundle: Bundle, strategy: Strategy
) -> None:
    """The box goes round the Earth the long way, so that the mean of neighbours at its two ends lies outside."""
    area = Box(-10, 3, 10, -3)
    lat, lon = np.array([0.0, 0.0, 0.5]), np.array([3.5, -3.5, -3.6])
    cell = int(scores_at(bundle, 0.0, 0.0).cell_id[0])
    found = Neighbors(np.full(3, cell, np.int32), latlon_to_xyz(lat, lon), np.array([0.99, 0.985, 0.98]))
    confinement = Confinement(bundle.cells, RULE)
    scores = confinement.scores(area, scores_at(bundle, 0.0, 0.0))
    free = decide(RULE, strategy, scores, found)
    assert not area.contains_xyz(free.xyz)
    held = confinement.decision(area, free, scores, found)
    assert area.contains_xyz(held.xyz)
    assert float(np.max(found.xyz @ held.xyz)) == pytest.approx(1)
    assert all(area.contains_xyz(cluster.xyz) for cluster in held.clusters)
    assert held.signals["log_spread"] != free.signals["log_spread"]


def test_an_estimate_inside_stays_as_it_is(bundle: Bundle) -> None:
    lat, lon = np.array([48.0, 48.5]), np.array([11.0, 11.5])
    found = Neighbors(np.zeros(2, np.int32), latlon_to_xyz(lat, lon), np.array([0.9, 0.9]))
    confinement = Confinement(bundle.cells, RULE)
    scores = confinement.scores(EUROPE, scores_at(bundle, 48.0, 11.0))
    free = decide(RULE, Strategy.POSTERIOR, scores, found)
    held = confinement.decision(EUROPE, free, scores, found)
    np.testing.assert_array_equal(held.xyz, free.xyz)
    assert held.signals == free.signals


def test_without_neighbours_it_is_the_mean_of_the_best_cell_that_lies_inside(bundle: Bundle) -> None:
    lat, lon = xyz_to_latlon(bundle.cells.xyz[7])
    area = Circle(float(lat), float(lon), 1000)
    confinement = Confinement(bundle.cells, RULE)
    scores = confinement.scores(area, scores_at(bundle, 0.0, 0.0))
    held = confinement.decision(area, decide(RULE, Strategy.POSTERIOR, scores, NONE), scores, NONE)
    assert held.method is Method.CELL_MEAN
    assert float(haversine_km(*xyz_to_latlon(held.xyz), area.lat, area.lon)) < 0.001


def test_an_area_without_anything_is_not_found(bundle: Bundle) -> None:
    confinement = Confinement(bundle.cells, RULE)
    lat, lon = destination(*xyz_to_latlon(bundle.cells.xyz[7]), 0.0, 100.0)
    area = Circle(float(lat), float(lon), 1000)  # a cell reaches into it, but its mean is elsewhere
    scores = confinement.scores(area, scores_at(bundle, 0.0, 0.0))
    with pytest.raises(NotFound) as raised:
        confinement.decision(area, decide(RULE, Strategy.POSTERIOR, scores, NONE), scores, NONE)
    assert raised.value.reason is Reason.SEARCH_AREA_EMPTY
    assert raised.value.metadata == {"option": "search_area"}
