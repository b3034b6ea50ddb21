"""Outlines of S2 cells are the cells' true edges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import s2cell
from hypothesis import given
from hypothesis import strategies as st

from geofix.outlines import Ring, cut_at_antimeridian, outline, rings

FACES = ("1", "3", "5", "7", "9", "b")


def area(ring: Ring) -> float:
    """Steradians inside a counterclockwise ring whose edges are short."""
    total = 0.0
    for (lon0, lat0), (lon1, lat1) in pairwise(ring):
        total -= np.radians(lon1 - lon0) * (2 + np.sin(np.radians(lat0)) + np.sin(np.radians(lat1))) / 2
    return total


def inside(ring: Ring, lon: float, lat: float) -> bool:
    crossings = 0
    for (x0, y0), (x1, y1) in pairwise(ring):
        if (y0 > lat) != (y1 > lat) and lon < x0 + (x1 - x0) * (lat - y0) / (y1 - y0):
            crossings += 1
    return crossings % 2 == 1


def test_the_six_faces_cover_the_earth() -> None:
    assert sum(area(ring) for token in FACES for ring in rings(token)) == pytest.approx(4 * np.pi, rel=1e-6)


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.integers(1, 12))
def test_a_cell_holds_its_centre_within_the_map_and_closes(lat: float, lon: float, level: int) -> None:
    token = s2cell.lat_lon_to_token(lat, lon, level)
    centre_lat, centre_lon = s2cell.token_to_lat_lon(token)
    pieces = rings(token)
    assert 1 <= len(pieces) <= 2
    for ring in pieces:
        assert ring[0] == ring[-1]
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
        assert all(abs(x1 - x0) <= 180 for (x0, _), (x1, _) in pairwise(ring) if abs(_) < 89)
        assert area(ring) > 0
    assert any(inside(ring, centre_lon, centre_lat) for ring in pieces)


def test_a_cell_across_the_antimeridian_is_cut_there() -> None:
    pieces = rings("7")  # only faces lie across it: it is an edge of all their children
    assert len(pieces) == 2
    assert {max(abs(x) for x, _ in ring) for ring in pieces} == {180.0}


def test_a_ring_around_the_pole_ends_at_the_edge_of_the_map() -> None:
    lon = np.append(np.arange(-180.0, 180.0, 10.0), -180.0)
    (ring,) = cut_at_antimeridian(np.full_like(lon, 70.0), lon)
    assert max(y for _, y in ring) == 90.0
    assert abs(area(ring)) == pytest.approx(2 * np.pi * (1 - np.sin(np.radians(70))), rel=1e-6)


def test_the_outline_is_geojson_of_all_cells() -> None:
    shape = outline(["47a1", "47a3"])
    assert shape["type"] == "MultiPolygon"
    assert len(shape["coordinates"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["", "zz", "0", "47a1x", "d"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not the token of an S2 cell"):
        rings(token)
