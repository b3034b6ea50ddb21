"""Names of places: the nearest one, told with its distance, everywhere on Earth."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix.geo import FloatArray, haversine_km
from geofix.places import NEAR_KM, Place, describe, nearest_place

LATS = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0]))
LONS = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0]))


@pytest.fixture(scope="module")
def all_places() -> tuple[FloatArray, FloatArray]:
    with resources.as_file(resources.files("geofix") / "data/places.npz") as path, np.load(path) as data:
        return data["lat"].astype(float), data["lon"].astype(float)


@pytest.mark.parametrize(
    ("lat", "lon", "said"),
    [
        (24.09, 32.90, "near Aswān, Egypt"),
        (-33.87, 151.21, "Australia"),
        (64.15, -21.94, "near Reykjavík, Iceland"),
        (-17.8, 179.99, "Fiji"),
        (-17.8, -179.99, "Fiji"),
    ],
)
def test_known_places(lat: float, lon: float, said: str) -> None:
    assert said in describe(lat, lon)


def test_far_from_everything_the_distance_is_told() -> None:
    said = describe(-48.88, -123.39)  # the place of the ocean that is farthest from any land
    assert said[0].isdigit()
    assert " km from " in said
    assert not said.startswith("near")


def test_at_the_poles_every_longitude_is_the_same_place() -> None:
    for pole in (90.0, -90.0):
        assert len({describe(pole, lon) for lon in (-180.0, -60.0, 0.0, 99.0, 180.0)}) == 1


@settings(max_examples=200)
@given(LATS, LONS)
def test_no_place_is_nearer(all_places: tuple[FloatArray, FloatArray], lat: float, lon: float) -> None:
    found = nearest_place(lat, lon)
    nearest = float(haversine_km(lat, lon, *all_places).min())
    assert found.away_km == pytest.approx(nearest, abs=0.001)
    assert found.away_km == pytest.approx(float(haversine_km(lat, lon, found.lat, found.lon)), abs=1e-6)
    assert found.name
    assert found.country


def test_every_place_is_found_at_its_own_place(all_places: tuple[FloatArray, FloatArray]) -> None:
    for index in range(0, len(all_places[0]), len(all_places[0]) // 200):
        lat, lon = float(all_places[0][index]), float(all_places[1][index])
        assert nearest_place(lat, lon).away_km < 0.001


def test_near_ends_where_the_distance_begins_to_be_told() -> None:
    assert str(Place("Aswan", "Egypt", 24.1, 32.9, NEAR_KM)) == "near Aswan, Egypt"
    assert str(Place("Aswan", "Egypt", 24.1, 32.9, NEAR_KM + 0.6)) == "76 km from Aswan, Egypt"
    assert str(Place("Hanga Roa", "Chile", -27.1, -109.4, 1234.4)) == "1,234 km from Hanga Roa, Chile"


def test_a_name_is_not_said_twice() -> None:
    assert str(Place("Singapore", "Singapore", 1.3, 103.8, 0)) == "near Singapore"
    assert describe(1.29, 103.85) == "near Singapore"
