"""A circle on a flat map holds the places within its radius and no others, wherever it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from geofix.circle import Ring, circle_rings
from geofix.geo import FloatArray, destination, haversine_km


def inside(rings: list[Ring], lat: FloatArray, lon: FloatArray) -> NDArray[np.bool_]:
    """Even-odd rule in the plane, over all rings, for places of shape (n,)."""
    hit = np.zeros(len(lat), bool)
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            if y1 != y2:
                hit ^= ((y1 > lat) != (y2 > lat)) & (lon < x1 + (lat - y1) / (y2 - y1) * (x2 - x1))
    return hit


def area(ring: Ring) -> float:
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring)) / 2


CENTRES = [(47.0, 10.0), (0.0, 179.9), (0.0, -180.0), (0.0, 180.0), (65.0, -179.0), (10.0, 0.0)]
CENTRES += [(89.0, 30.0), (-89.9, -150.0), (90.0, 0.0), (-90.0, 77.0)]


@pytest.mark.parametrize("radius_km", [1, 150, 2500, 9000, 12_000, 19_000])
@pytest.mark.parametrize("centre", CENTRES)
def test_the_region_is_the_places_within_the_radius(centre: tuple[float, float], radius_km: float) -> None:
    rings = circle_rings(*centre, radius_km * 1000, points=360)
    for ring in rings:
        assert ring[0] == ring[-1]
        assert area(ring) > 0, "counter-clockwise"
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)
    rng = np.random.default_rng(0)
    lats = np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    lons = rng.uniform(-180, 180, 300)
    around = min(2 * radius_km, 20_000) * rng.uniform(0, 1, 300)
    near_lats, near_lons = destination(*centre, rng.uniform(0, 360, 300), around)
    lats, lons = np.concatenate([lats, near_lats]), np.concatenate([lons, near_lons])
    away = haversine_km(*centre, lats, lons)
    sure = np.abs(away / radius_km - 1) > 0.01  # between the corners the outline is a chord
    found = inside(rings, lats[sure], lons[sure])
    assert found.any()
    assert np.array_equal(found, away[sure] < radius_km)


def test_a_circle_across_the_antimeridian_is_two() -> None:
    east, west = sorted(circle_rings(0, 179.9, 100_000), key=lambda ring: -ring[0][0])
    assert max(lon for lon, _ in east) == 180
    assert min(lon for lon, _ in west) == -180
    assert len(circle_rings(0, 178, 100_000)) == 1


def test_everything_is_everything() -> None:
    (ring,) = circle_rings(12, 0, 3e7)
    assert area(ring) == pytest.approx(360 * 180)
