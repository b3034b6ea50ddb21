"""Clustering of neighbours: mode `reference` against the published code's outputs, mode `geofix` by its symmetries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix.aggregate import clusters_of, dbscan_labels, swc_estimate
from geofix.geo import FloatArray, destination, distance_km, haversine_km, latlon_to_xyz, normalise, xyz_to_latlon

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data/swc_aggregation.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_mode_reference_is_the_published_code(case: dict[str, Any]) -> None:
    lat, lon = np.array(case["candidates"]).T
    found = swc_estimate(lat, lon, case["eps_km"], mode="reference")
    assert float(haversine_km(*found, *case["expected"])) < 0.001


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_mode_geofix_stays_beside_mode_reference(case: dict[str, Any]) -> None:
    """The two differ by the normalisation alone; most at a pole, where the arcsine of 1 minus a little falls fast."""
    lat, lon = np.array(case["candidates"]).T
    ours, theirs = (swc_estimate(lat, lon, case["eps_km"], mode=mode) for mode in ("geofix", "reference"))
    assert float(haversine_km(*ours, *theirs)) < case["eps_km"] / 2


def rotation(seed: int) -> FloatArray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)), float)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1.0, 50.0, 800.0]))
def test_mode_geofix_turns_with_the_sphere(seed: int, count: int, eps_km: float) -> None:
    rng = np.random.default_rng(seed)
    spread = eps_km / 6371
    places = normalise(rng.normal(size=3) * np.ones((count, 3)) + rng.normal(scale=spread, size=(count, 3)))
    gaps = distance_km(places[:, None], places[None])
    # Places exactly eps apart belong together or not by rounding; no rotation could keep that.
    if np.any(np.abs(gaps - eps_km) < 1e-3):
        return
    turn = rotation(seed + 1)
    straight = latlon_to_xyz(*swc_estimate(*xyz_to_latlon(places), eps_km))
    turned = latlon_to_xyz(*swc_estimate(*xyz_to_latlon(places @ turn.T), eps_km))
    assert turned == pytest.approx(turn @ straight, abs=1e-9)


def test_mode_reference_does_not_turn_with_the_sphere() -> None:
    """A wide cluster's unnormalised mean lies below the surface, and the arcsine of its z is too small."""
    lat, lon = destination(60.0, 10.0, np.arange(0, 360, 45.0), 400.0)
    assert swc_estimate(lat, lon, 1000.0)[0] == pytest.approx(60, abs=0.01)
    assert swc_estimate(lat, lon, 1000.0, mode="reference")[0] < 59.85


def test_clusters_come_by_size_then_by_best_rank() -> None:
    #          rank: 0     1     2     3     4     5
    lat = np.array([50.0, 10.0, 30.0, 30.0, 10.0, 70.0])
    found = clusters_of(latlon_to_xyz(lat, np.zeros(6)), eps_km=1.0)
    assert [cluster.members for cluster in found] == [(1, 4), (2, 3), (0,), (5,)]
    assert [cluster.best_rank for cluster in found] == [1, 2, 0, 5]


def test_min_samples_leaves_noise() -> None:
    places = latlon_to_xyz([0.0, 0.001, 0.002, 45.0], [0.0] * 4)
    assert dbscan_labels(places, 1.0, 3).tolist() == [0, 0, 0, -1]
    assert [cluster.members for cluster in clusters_of(places, 1.0, 3)] == [(0, 1, 2)]


def test_nothing_but_noise_answers_with_the_best_match() -> None:
    assert swc_estimate([10.0, 40.0], [20.0, 50.0], 1.0, min_samples=3) == pytest.approx((10.0, 20.0))


def test_places_at_exactly_eps_belong_together() -> None:
    lat, lon = destination(12.0, 34.0, 56.0, 1.0)
    assert len(clusters_of(latlon_to_xyz([12.0, lat], [34.0, lon]), 1.0)) == 1


@pytest.mark.parametrize(("lat", "lon"), [([0.0, 0.0], [179.999, -179.999]), ([89.999, 89.999], [0.0, 180.0])])
def test_neighbours_across_the_seams_of_the_map_cluster(lat: list[float], lon: list[float]) -> None:
    assert len(clusters_of(latlon_to_xyz(lat, lon), 1.0)) == 1


def test_a_cluster_without_a_mean_is_its_best_match() -> None:
    places = latlon_to_xyz([0.0, 0.0], [0.0, 180.0])
    (only,) = clusters_of(places, 21_000.0)
    assert only.xyz == pytest.approx(places[0])


def test_no_neighbours() -> None:
    assert clusters_of(np.empty((0, 3)), 1.0) == []
    with pytest.raises(ValueError, match="no neighbours"):
        swc_estimate([], [])


def test_places_that_cancel_out_are_stood_for_by_their_best_match() -> None:
    ends = latlon_to_xyz([20.0, -20.0, 60.0], [30.0, -150.0, 30.0])
    (both,) = clusters_of(ends[:2], eps_km=20_100)
    assert both.members == (0, 1)
    np.testing.assert_array_equal(both.xyz, ends[0])
    two = clusters_of(ends[[2, 0]], eps_km=1.0)
    assert [cluster.members for cluster in two] == [(0,), (1,)]
    np.testing.assert_array_equal(two[1].xyz, ends[0])


def test_noise_is_in_no_cluster() -> None:
    places = latlon_to_xyz([0.0, 50.0, 50.001, 50.002, -40.0], [0.0, 7.0, 7.0, 7.0, 9.0])
    assert [cluster.members for cluster in clusters_of(places, eps_km=1.0, min_samples=3)] == [(1, 2, 3)]
    assert clusters_of(places[[0, 4]], eps_km=1.0, min_samples=2) == []
