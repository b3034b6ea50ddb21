"""The sphere: round trips, distances and means, at the poles and the antimeridian as anywhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geofix.geo import (
    EARTH_RADIUS_KM,
    FloatArray,
    angle_between,
    chord_within,
    destination,
    distance_km,
    distances_between,
    haversine_km,
    latlon_to_xyz,
    mean_direction,
    normalise,
    xyz_to_latlon,
)

LATS = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 89.9999999, -89.9999999]))
LONS = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, 179.9999999, -179.9999999]))
PLACES = st.tuples(LATS, LONS)
HALF_EARTH_KM = math.pi * EARTH_RADIUS_KM


def rotation(seed: int) -> FloatArray:
    """A random proper rotation, shape (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)), float)


@given(PLACES)
def test_a_place_survives_the_round_trip(place: tuple[float, float]) -> None:
    lat, lon = xyz_to_latlon(latlon_to_xyz(*place))
    assert -90 <= lat <= 90
    assert -180 <= lon <= 180
    assert lat == pytest.approx(place[0], abs=1e-9)
    assert float(haversine_km(lat, lon, *place)) < 1e-6


@given(PLACES)
def test_unit_vectors_have_length_one(place: tuple[float, float]) -> None:
    assert np.linalg.norm(latlon_to_xyz(*place)) == pytest.approx(1, abs=1e-15)


@given(PLACES, PLACES)
def test_distance_is_symmetric_and_bounded(a: tuple[float, float], b: tuple[float, float]) -> None:
    there, back = float(haversine_km(*a, *b)), float(haversine_km(*b, *a))
    assert there == back
    assert 0 <= there <= HALF_EARTH_KM + 1e-6


@given(PLACES)
def test_distance_to_itself_is_nothing(place: tuple[float, float]) -> None:
    assert float(haversine_km(*place, *place)) == 0
    assert float(haversine_km(*place, place[0], place[1] + 360)) < 1e-6


@given(PLACES, PLACES, PLACES)
def test_distance_obeys_the_triangle_inequality(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> None:
    assert float(haversine_km(*a, *c)) <= float(haversine_km(*a, *b)) + float(haversine_km(*b, *c)) + 1e-6


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((90.0, 0.0), (90.0, 123.0), 0.0),
        ((90.0, 0.0), (-90.0, 50.0), HALF_EARTH_KM),
        ((0.0, 179.5), (0.0, -179.5), EARTH_RADIUS_KM * math.radians(1)),
        ((89.5, 0.0), (89.5, 180.0), EARTH_RADIUS_KM * math.radians(1)),
        ((0.0, 0.0), (0.0, 180.0), HALF_EARTH_KM),
        # 1e-9 of a degree: 0.11 mm, which the arccosine of a dot product would call 0.
        ((45.0, 10.0), (45.000000001, 10.0), EARTH_RADIUS_KM * math.radians(1e-9)),
        ((52.5200, 13.4050), (48.8566, 2.3522), 877.46),
    ],
)
def test_known_distances(a: tuple[float, float], b: tuple[float, float], km: float) -> None:
    assert float(haversine_km(*a, *b)) == pytest.approx(km, rel=1e-5, abs=1e-9)


@given(PLACES, st.floats(0, 360), st.floats(0, 20_000))
def test_destination_lies_as_far_as_it_says(place: tuple[float, float], bearing: float, km: float) -> None:
    lat, lon = destination(*place, bearing, km)
    assert -90 <= lat <= 90
    assert float(haversine_km(*place, lat, lon)) == pytest.approx(km, abs=1e-5)


@pytest.mark.parametrize("km", [0.0, 1.0, 25.0, 5000.0, 20_015.0, 1e6])
def test_a_chord_holds_what_is_within_its_distance_and_no_more(km: float) -> None:
    lat, lon = destination(89.0, 179.9, 30.0, min(km, 20_000.0))
    chord = float(np.linalg.norm(latlon_to_xyz(89.0, 179.9) - latlon_to_xyz(lat, lon)))
    assert chord <= chord_within(km)
    if 0 < km < 20_000:
        assert chord > chord_within(km - 0.1)


@pytest.mark.parametrize(
    ("start", "bearing", "end"),
    [
        ((0.0, 0.0), 0.0, (1.0, 0.0)),
        ((0.0, 179.5), 90.0, (0.0, -179.5)),
        ((89.5, 30.0), 0.0, (89.5, -150.0)),
        ((-89.5, 30.0), 180.0, (-89.5, -150.0)),
    ],
)
def test_destination_goes_where_the_bearing_points(
    start: tuple[float, float], bearing: float, end: tuple[float, float]
) -> None:
    lat, lon = destination(*start, bearing, EARTH_RADIUS_KM * math.radians(1))
    assert float(haversine_km(lat, lon, *end)) < 1e-6


def test_destination_takes_arrays() -> None:
    lat, lon = destination(10.0, 20.0, np.array([0.0, 90.0, 180.0]), 100.0)
    assert haversine_km(10.0, 20.0, lat, lon) == pytest.approx([100.0] * 3)


@given(hnp.arrays(float, (5, 3), elements=st.floats(-1, 1)), st.integers(0, 10_000))
def test_mean_direction_turns_with_the_sphere(vectors: FloatArray, seed: int) -> None:
    assume(np.all(np.linalg.norm(vectors, axis=1) > 0.1))
    places = normalise(vectors)
    assume(np.linalg.norm(places.mean(axis=0)) > 1e-3)  # beyond, the mean's direction is rounding
    turn = rotation(seed)
    assert mean_direction(places @ turn.T) == pytest.approx(turn @ mean_direction(places), abs=1e-10)


def test_mean_direction_crosses_antimeridian_and_pole() -> None:
    lat, lon = xyz_to_latlon(mean_direction(latlon_to_xyz([10.0, 10.0], [179.0, -179.0])))
    assert abs(float(lon)) == pytest.approx(180)
    assert float(lat) == pytest.approx(10, abs=0.01)
    assert mean_direction(latlon_to_xyz([89.0, 89.0], [0.0, 180.0])) == pytest.approx([0, 0, 1], abs=1e-12)


def test_mean_direction_takes_weights() -> None:
    places = latlon_to_xyz([0.0, 0.0], [0.0, 90.0])
    assert mean_direction(places, [1.0, 0.0]) == pytest.approx([1, 0, 0])
    assert xyz_to_latlon(mean_direction(places, [1.0, 1.0]))[1] == pytest.approx(45)


@pytest.mark.parametrize("places", [np.empty((0, 3)), latlon_to_xyz([0.0, 0.0], [0.0, 180.0])])
def test_no_mean_direction_is_an_error(places: FloatArray) -> None:
    with pytest.raises(ValueError, match="no mean direction"):
        mean_direction(places)


def test_a_vector_of_no_length_has_no_direction() -> None:
    with pytest.raises(ValueError, match="no direction"):
        normalise([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


@given(st.floats(1e-12, math.pi - 1e-12), st.integers(0, 100))
def test_angles_keep_their_digits(angle: float, seed: int) -> None:
    turn = rotation(seed)
    a, b = turn @ [1.0, 0, 0], turn @ [math.cos(angle), math.sin(angle), 0]
    assert float(angle_between(a, b)) == pytest.approx(angle, rel=1e-3, abs=1e-15)
    assert float(distance_km(a, b)) == pytest.approx(EARTH_RADIUS_KM * angle, rel=1e-3, abs=1e-11)


@given(st.lists(PLACES, min_size=1, max_size=6))
def test_distances_between_places_are_those_of_each_pair(places: list[tuple[float, float]]) -> None:
    lat, lon = zip(*places, strict=True)
    xyz = latlon_to_xyz([*lat, -lat[0]], [*lon, lon[0] + 180])  # the first place's antipode is among them
    np.testing.assert_allclose(distances_between(xyz), distance_km(xyz[:, None], xyz[None]), rtol=1e-12, atol=1e-9)
