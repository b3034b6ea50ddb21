"""Areas: what lies in them, how far away it is, the boxes around them, and the cells that may reach into them."""

from __future__ import annotations

import numpy as np
import pytest
import s2cell
from numpy.typing import NDArray

from geofix.area import HALF_WAY_ROUND_M, Area, Box, Circle, may_overlap
from geofix.cells import Cells
from geofix.countries import Country, country_codes
from geofix.errors import InvalidInput
from geofix.geo import (
    EARTH_RADIUS_KM,
    angle_between,
    destination,
    haversine_km,
    latlon_to_xyz,
    normalise,
    xyz_to_latlon,
)
from geofix.search_area import area_from_message, area_to_message
from geofix.v1 import types_pb2

PLACES = xyz_to_latlon(normalise(np.random.default_rng(0).normal(size=(2000, 3))))


def random_areas(count: int, seed: int = 0) -> list[Area]:
    """Circles and boxes of all sizes, often at poles and across the antimeridian."""
    rng = np.random.default_rng(seed)
    areas: list[Area] = []
    for index in range(count):
        lat = float(rng.choice([-90, 90, rng.uniform(-90, 90), rng.uniform(85, 90)], p=[0.1, 0.1, 0.7, 0.1]))
        lon = float(rng.choice([-180, 180, 179.9, rng.uniform(-180, 180)], p=[0.1, 0.1, 0.1, 0.7]))
        if index % 2:
            areas.append(Circle(lat, lon, float(10 ** rng.uniform(2, 7.3))))
        else:
            other = float(rng.uniform(-180, 180))
            areas.append(Box(min(lat, float(rng.uniform(-90, 90))), lon, max(lat, 0.0), other))
    return areas


@pytest.mark.parametrize("area", [*random_areas(60), Country("NZ"), Country("FJ"), Country("AQ")], ids=str)
def test_bounds_hold_the_area_and_the_distance_is_0_exactly_inside(area: Area) -> None:
    lat, lon = PLACES
    inside = area.contains(lat, lon)
    bounded = np.any([box.contains(lat, lon) for box in area.bounds()], axis=0)
    assert all(box.west <= box.east for box in area.bounds())
    assert not np.any(inside & ~bounded)
    np.testing.assert_array_equal(area.distance_km(latlon_to_xyz(lat, lon)) == 0, inside)
    np.testing.assert_array_equal(area.contains_xyz(latlon_to_xyz(lat, lon)), inside)


@pytest.mark.parametrize(
    "area", [Box(10, 20, 30, 50), Box(-90, -180, 90, 180), Box(-5, 170, 90, -170), Box(0, 0, 0, 0)]
)
def test_the_distance_to_a_box_is_that_to_its_nearest_place(area: Box) -> None:
    lat, lon = np.meshgrid(np.linspace(area.south, area.north, 200), area.west + np.linspace(0, area._span, 200))
    grid = latlon_to_xyz(lat.ravel(), lon.ravel())
    xyz = latlon_to_xyz(*PLACES)[:300]
    nearest = EARTH_RADIUS_KM * np.array([angle_between(place, grid).min() for place in xyz])
    found = area.distance_km(xyz)
    assert np.all(found <= nearest + 1e-3)
    assert np.all(nearest - found < 150)  # the grid is that coarse


def test_a_circle_ends_at_its_radius() -> None:
    for lat, lon in [(0, 180), (89.9, 10), (-90, 0), (45, -179.99)]:
        circle = Circle(lat, lon, 100_000)
        assert np.all(circle.contains(*destination(lat, lon, np.arange(0, 360, 5), 99.999)))
        assert not np.any(circle.contains(*destination(lat, lon, np.arange(0, 360, 5), 100.001)))
    assert Circle(10, 10, HALF_WAY_ROUND_M).contains(-10, -170)


@pytest.mark.parametrize(
    ("box", "inside", "outside"),
    [
        (Box(-20, 175, -10, -175), [(-15, 180), (-15, -180), (-15, -176), (-20, 175)], [(-15, 174.9), (-21, 180)]),
        (Box(0, -180, 10, -170), [(5, 180), (5, -180)], [(5, 179.9)]),
        (Box(80, 0, 90, 10), [(90, -120), (85, 5)], [(85, -120)]),
        (Box(-90, -180, 90, 180), [(0, 0), (90, 0), (-90, 77)], []),
    ],
)
def test_a_box_knows_the_antimeridian_and_the_poles(
    box: Box, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    for lat, lon in inside:
        assert box.contains(lat, lon), (lat, lon)
        assert any(part._has_lon(np.array(lon)) and part.south <= lat <= part.north for part in box.bounds())
    for lat, lon in outside:
        assert not box.contains(lat, lon), (lat, lon)


@pytest.mark.parametrize(
    ("code", "inside", "outside"),
    [
        ("FR", [(48.86, 2.35), (4.0, -53.0)], [(50.85, 4.35), (46.0, -10.0)]),
        ("GF", [(4.0, -53.0)], [(48.86, 2.35), (4.0, -57.0)]),
        ("RU", [(55.75, 37.62), (66.0, 179.9), (66.0, -179.9)], [(64.5, -165.4), (66.0, -165.0)]),
        ("US", [(40.6, -73.95), (64.5, -165.4), (21.3, -157.86)], [(66.0, -175.0), (49.5, -100.0)]),
        ("FJ", [(-17.8, 178.0), (-16.8, -179.95)], [(0.0, 180.0)]),
        ("AQ", [(-90.0, 0.0), (-89.0, 123.0), (-75.0, 0.0)], [(-54.8, -68.3), (90.0, 0.0)]),
        ("ZA", [(-30.0, 26.0)], [(-29.5, 28.0)]),
        ("LS", [(-29.5, 28.0)], [(-30.0, 26.0)]),
        ("NL", [(52.37, 4.9), (52.115, 4.25)], [(52.37, 3.0)]),
        ("SJ", [(78.22, 15.65)], [(60.0, 10.0)]),
        ("XK", [(42.66, 21.16)], [(44.8, 20.5)]),
    ],
)
def test_places_lie_in_their_countries(
    code: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    assert Country(code).contains(*np.array(inside).T).all()
    assert not Country(code).contains(*np.array(outside).T).any()


def test_the_coast_counts_and_a_neighbour_s_soil_does_not() -> None:
    """Walking out to sea from Brest a place is in France for 5 km after the coast; walking into Spain it is not for a metre."""
    lat, lon = destination(48.4, -4.5, 270, np.arange(0, 200, 0.5))
    france = Country("FR")
    inside = france.contains(lat, lon)
    outline = france._outline.encloses(lat, lon)
    assert 8 <= np.flatnonzero(inside).max() - np.flatnonzero(outline).max() <= 40
    lat, lon = destination(43.2, 0.0, 180, np.arange(0, 100, 0.5))
    np.testing.assert_array_equal(france.contains(lat, lon), ~Country("ES").contains(lat, lon))


def test_no_place_lies_in_two_countries_and_a_third_of_the_earth_in_one() -> None:
    parts = {"GF", "GP", "MQ", "RE", "YT", "SJ", "BQ"}
    counts = np.sum([Country(c)._outline.encloses(*PLACES) for c in sorted(country_codes() - parts)], axis=0)
    assert counts.max() == 1
    assert (
        0.27 < counts.mean() < 0.31
    )  # 29.2 % of the Earth is land, of which the map leaves out inner waters and ice shelves


def s2_partition(level: int) -> tuple[Cells, NDArray[np.int64]]:
    """Cells of one S2 level that hold the places, and the cell of each place."""
    ids = [s2cell.lat_lon_to_cell_id(float(a), float(o), level) for a, o in zip(*PLACES, strict=True)]
    unique, index = np.unique(np.array(ids, np.uint64), return_inverse=True)
    centre = np.array([s2cell.cell_id_to_lat_lon(int(i)) for i in unique])
    tokens = tuple((s2cell.cell_id_to_token(int(i)),) for i in unique)
    count = len(unique)
    return Cells(tokens, latlon_to_xyz(*centre.T), np.full(count, 1e6), np.ones(count, np.int64)), index


@pytest.mark.parametrize("level", [0, 1, 3, 6])
def test_a_cell_with_a_place_in_the_area_may_overlap_it(level: int) -> None:
    cells, cell_of = s2_partition(level)
    for area in [*random_areas(40, seed=level), Country("NZ")]:
        mask = may_overlap(cells, area)
        assert mask[cell_of[area.contains(*PLACES)]].all(), area


def test_most_cells_far_from_an_area_do_not_overlap_it() -> None:
    cells, cell_of = s2_partition(4)
    mask = may_overlap(cells, Circle(47, 8, 200_000))
    assert 1 <= mask.sum() < 20
    away = haversine_km(47, 8, *PLACES)
    assert not mask[cell_of[away > 200 + 2 * 900]].any()


def test_a_component_reaches_three_spreads() -> None:
    cells = Cells(((), ()), latlon_to_xyz([0.0, 0.0], [10.0, 20.0]), np.array([1e4, 1e4]), np.ones(2, np.int64))
    spread_km = EARTH_RADIUS_KM / 100
    near, far = (float(destination(0, 10, 0, spread_km * reach + 10)[0]) for reach in (2.99, 3.01))
    assert may_overlap(cells, Circle(near, 10, 10_000)).tolist() == [True, False]
    assert may_overlap(cells, Circle(far, 10, 10_000)).tolist() == [False, False]


def message(**fields: object) -> types_pb2.SearchArea:
    return types_pb2.SearchArea(**fields)  # type: ignore[arg-type]


def test_messages_are_read() -> None:
    circle = message(circle={"center": {"latitude": 1, "longitude": 2}, "radius_m": 3})
    box = message(
        box={"southwest": {"latitude": -1, "longitude": 170}, "northeast": {"latitude": 2, "longitude": -170}}
    )
    assert area_from_message(circle) == Circle(1, 2, 3)
    assert area_from_message(box) == Box(-1, 170, 2, -170)
    assert area_from_message(message(country="NO")) == Country("NO")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (message(), "set a circle, a box or a country"),
        (message(circle={"center": {"latitude": 91}, "radius_m": 1}), "centre is within"),
        (message(circle={"center": {"latitude": float("nan")}, "radius_m": 1}), "centre is within"),
        (message(circle={"radius_m": 0}), "radius is over 0"),
        (message(circle={"radius_m": 2.1e7}), "radius is over 0"),
        (message(circle={"radius_m": float("nan")}), "radius is over 0"),
        (message(box={"southwest": {"latitude": 2}, "northeast": {"latitude": 1}}), "from south to north"),
        (message(box={"southwest": {"longitude": -181}, "northeast": {"latitude": 1}}), "west and east"),
        (message(country="no"), "two-letter code"),
        (message(country="ZZ"), "two-letter code"),
    ],
)
def test_what_is_no_area_is_refused(wrong: types_pb2.SearchArea, text: str) -> None:
    with pytest.raises(InvalidInput, match=text) as caught:
        area_from_message(wrong, "search_area")
    assert caught.value.metadata == {"option": "search_area"}


@pytest.mark.parametrize("area", [Circle(48.0, 11.0, 5000.0), Box(-20.0, 170.0, -10.0, -175.0), Country("DE")])
def test_a_message_of_an_area_is_read_as_that_area(area: Area) -> None:
    assert area_from_message(area_to_message(area)) == area
