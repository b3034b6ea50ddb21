"""The probability density over the Earth: it sums to 1, lies where its parts lie, and turns with the sphere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import s2cell
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix.client import DensityCell as Cell
from geofix.client import Location
from geofix.density import ANYWHERE, CELLS_SHARE, NEIGHBOR_KM, _spirals, density_cells
from geofix.geo import EARTH_RADIUS_KM, distance_km, latlon_to_xyz, normalise
from geofix.posterior import CellScores

KAPPA = np.array([2000.0, 500.0])


def scores(lat: float = 40.0, lon: float = 10.0) -> CellScores:
    return CellScores.best_of(np.log([0.75, 0.25]), latlon_to_xyz([lat, -20.0], [lon, 100.0]), 0.0, 2)


NEIGHBORS = latlon_to_xyz([40.5, 40.6, 60.0], [10.5, 10.4, 179.99])
WEIGHTS = np.array([0.5, 0.3, 0.2])


@pytest.mark.parametrize("count", [6, 16, 64, 256])
def test_cells_are_disjoint_and_hold_everything(count: int) -> None:
    found = density_cells(scores(), KAPPA, NEIGHBORS, WEIGHTS, count)
    assert len(found) <= count
    assert sum(cell.probability for cell in found) == pytest.approx(1, abs=1e-9)
    assert [c.probability for c in found] == sorted((c.probability for c in found), reverse=True)
    ids = sorted(s2cell.token_to_cell_id(cell.s2_token) for cell in found)
    for one, other in pairwise(ids):
        assert one + (one & -one) <= other - (other & -other) + 1, "the first ends before the second begins"


def test_the_mass_is_where_the_parts_are() -> None:
    found = density_cells(scores(), KAPPA, NEIGHBORS, WEIGHTS, 64)
    places = [s2cell.cell_id_to_lat_lon(s2cell.token_to_cell_id(cell.s2_token)) for cell in found]
    away = distance_km(latlon_to_xyz(*np.array(places).T), latlon_to_xyz(40.3, 10.3))
    near = sum(cell.probability for cell, km in zip(found, away, strict=True) if km < 1000)
    assert near == pytest.approx((1 - ANYWHERE) * (CELLS_SHARE * 0.75 + (1 - CELLS_SHARE) * 0.8), abs=0.06)
    alone = density_cells(scores(), KAPPA, np.empty((0, 3)), np.empty(0), 64)
    assert sum(cell.probability for cell in alone) == pytest.approx(1, abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([1e-9, 2.0, 500.0, 1e5]))
def test_points_have_the_distances_of_their_distribution(seed: int, kappa: float) -> None:
    """Mean of 1 − cos of the angle is 1 − coth κ + 1/κ for the vMF, whatever its mean."""
    mean = normalise(np.random.default_rng(seed).normal(size=(1, 3)))
    t = 1 - _spirals(mean, np.array([kappa]), 512) @ mean[0]
    assert np.linalg.norm(_spirals(mean, np.array([kappa])), axis=1) == pytest.approx(np.ones(128), abs=1e-9)
    expected = 1.0 if kappa < 1e-3 else 1 - 1 / np.tanh(kappa) + 1 / kappa
    assert t.mean() == pytest.approx(expected, rel=0.02)


def test_the_spread_around_a_neighbour_is_what_it_says() -> None:
    mean = latlon_to_xyz([10.0], [20.0])
    away = distance_km(_spirals(mean, np.array([(EARTH_RADIUS_KM / NEIGHBOR_KM) ** 2])), mean[0])
    assert np.sqrt((away**2).mean() / 2) == pytest.approx(NEIGHBOR_KM, rel=0.05)


def test_it_is_geojson_polygons() -> None:
    found = density_cells(scores(), KAPPA, NEIGHBORS, WEIGHTS, 32)
    location = Location(40, 10, True, "", "", density=tuple(Cell(c.s2_token, c.probability) for c in found))
    features = [f for f in location.geojson()["features"] if f["properties"]["kind"] == "density"]
    assert sum(f["properties"]["probability"] for f in features) == pytest.approx(1)
    assert {f["geometry"]["type"] for f in features} == {"MultiPolygon"}
