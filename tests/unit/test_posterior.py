"""Weights of neighbours, the mode of their density, and the signals; prediction density against the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix.geo import destination, distance_km, haversine_km, latlon_to_xyz, xyz_to_latlon
from geofix.posterior import CellScores, Kernel, Neighbors, kernel_mode, neighbor_weights, prediction_density, signals

DENSITIES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data/prediction_density.json").read_text())


@pytest.mark.parametrize("case", DENSITIES, ids=range(len(DENSITIES)))
@pytest.mark.parametrize("radius_km", ["1", "25", "200", "750", "2500"])
def test_prediction_density_is_the_published_one(case: dict[str, Any], radius_km: str) -> None:
    weights = np.array(case["probabilities"])
    assert int(weights.argmax()) == case["argmax"]
    means = latlon_to_xyz(*np.array(case["cells_latlon"]).T)
    assert prediction_density(weights, means, float(radius_km)) == pytest.approx(case["expected"][radius_km], abs=1e-9)


def scores(weights: list[float], lat: list[float], lon: list[float], count: int = 64) -> CellScores:
    return CellScores.best_of(np.log(np.array(weights)), latlon_to_xyz(lat, lon), domain_score=0.5, count=count)


def neighbors(cells: list[int], lat: list[float], lon: list[float], similarity: list[float]) -> Neighbors:
    return Neighbors(np.array(cells, np.int32), latlon_to_xyz(lat, lon), np.array(similarity))


def test_the_best_cells_come_first_and_ties_keep_their_order() -> None:
    found = scores([0.2, 0.3, 0.2, 0.3], [0, 10, 20, 30], [0, 0, 0, 0], count=3)
    assert found.cell_id.tolist() == [1, 3, 0]
    assert np.exp(found.log_weight) == pytest.approx([0.3, 0.3, 0.2])
    assert found.entropy == pytest.approx(-2 * (0.2 * np.log(0.2) + 0.3 * np.log(0.3)))  # of all four


def test_a_cell_without_weight_does_no_harm() -> None:
    log_weights = np.array([0.0, -np.inf])
    found = CellScores.best_of(log_weights, latlon_to_xyz([0, 1], [0, 1]), 0.0, 2)
    assert found.entropy == 0


def test_weights_are_the_softmax_of_cell_weight_and_similarity() -> None:
    cells = scores([0.75, 0.25], [0, 10], [0, 0])
    found = neighbors([1, 0], [10, 0], [0, 0], [0.9, 0.8])
    logits = np.array([np.log(0.25) + 0.9 / 0.07, np.log(0.75) + 0.8 / 0.07])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert neighbor_weights(found, cells, 0.07) == pytest.approx(expected)
    assert neighbor_weights(found, None, 0.07)[0] == pytest.approx(1 / (1 + np.exp(-0.1 / 0.07)))


def test_weights_sum_to_one_at_any_temperature() -> None:
    rng = np.random.default_rng(0)
    found = neighbors(
        [0] * 50, rng.uniform(-90, 90, 50).tolist(), [0.0] * 50, np.sort(rng.uniform(-1, 1, 50))[::-1].tolist()
    )
    for temperature in (1e-4, 0.07, 10.0):
        assert neighbor_weights(found, scores([1.0], [0], [0]), temperature).sum() == pytest.approx(1)


def test_a_neighbour_of_an_unlisted_cell_weighs_as_the_worst_listed() -> None:
    cells = scores([0.6, 0.3, 0.1], [0, 10, 20], [0, 0, 0], count=2)
    weights = neighbor_weights(neighbors([1, 2], [10, 20], [0, 0], [0.5, 0.5]), cells, 0.07)
    assert weights == pytest.approx([0.5, 0.5])


def test_cells_can_count_less_or_nothing() -> None:
    cells, found = scores([0.9, 0.1], [0, 10], [0, 0]), neighbors([0, 1], [0, 10], [0, 0], [0.5, 0.5])
    assert neighbor_weights(found, cells, 0.07, 0.5) == pytest.approx([0.75, 0.25])  # 3 to 1: the root of 9 to 1
    assert neighbor_weights(found, cells, 0.07, 0) == pytest.approx([0.5, 0.5])


def test_the_mode_is_where_the_weight_gathers_not_where_one_is_heaviest() -> None:
    places = latlon_to_xyz([0.0, 50.0, 50.3, 49.8], [0.0, 10.0, 10.1, 9.9])
    weights = np.array([0.4, 0.2, 0.2, 0.2])
    assert kernel_mode(places, weights, Kernel(200.0)) == pytest.approx(places[1])


def test_a_narrow_part_of_the_kernel_finds_the_place_in_the_region() -> None:
    # One place amid the region, two photographs of one spot at its edge, and the heaviest alone far away.
    places = latlon_to_xyz([50.0, 52.0, 52.0, 48.0, -30.0], [10.0, 10.0, 10.01, 10.0, 100.0])
    weights = np.array([0.22, 0.12, 0.12, 0.14, 0.25])
    assert kernel_mode(places, weights, Kernel(600.0)) == pytest.approx(places[0])
    narrow = Kernel(600.0, near_share=0.7)
    assert kernel_mode(places, weights, narrow) == pytest.approx(places[1])
    assert narrow(np.array([0.0, 1e5])) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_refinement_moves_towards_the_surroundings_and_not_to_the_far() -> None:
    lat, lon = destination(20.0, 30.0, [0.0, 90.0], [0.0, 60.0])
    places = latlon_to_xyz([*lat, -40.0], [*lon, 100.0])
    moved = kernel_mode(places, np.array([0.3, 0.3, 0.4]), Kernel(200.0, refine_km=100.0))
    assert float(distance_km(moved, latlon_to_xyz(*destination(20.0, 30.0, 90.0, 30.0)))) < 10


def test_refinement_crosses_the_antimeridian() -> None:
    moved = kernel_mode(
        latlon_to_xyz([0.0, 0.0], [179.9, -179.9]), np.array([0.5, 0.5]), Kernel(200.0, refine_km=500.0)
    )
    lat, lon = xyz_to_latlon(moved)
    assert float(haversine_km(lat, lon, 0.0, 180.0)) < 1


def test_signals_without_neighbours_are_finite_and_zero() -> None:
    cells = scores([0.7, 0.3], [0, 0], [0, 0.1])
    found = signals(cells.xyz[0], cells, neighbors([], [], [], []), np.empty(0))
    assert all(np.isfinite(list(found.values())))
    assert found["top_similarity"] == found["mean_similarity"] == found["log_spread"] == found["mass_200km"] == 0
    assert found["prediction_density"] == pytest.approx(1)  # 11 km apart
    assert found["log_top_weight"] == pytest.approx(np.log(0.7))


def test_signals_say_how_far_the_mass_is() -> None:
    cells = scores([1.0], [0], [0])
    lat, lon = destination(0.0, 0.0, 90.0, [0.0, 1000.0])
    found = signals(
        cells.xyz[0], cells, neighbors([0, 0], lat.tolist(), lon.tolist(), [0.9, 0.7]), np.array([0.75, 0.25])
    )
    assert found["log_spread"] == pytest.approx(np.log1p(250.0))
    assert found["mass_200km"] == pytest.approx(0.75)
    assert found["mean_similarity"] == pytest.approx(0.8)
    assert found["log_cell_spread"] == pytest.approx(0, abs=1e-9)
