"""An answer as GeoJSON, and its distance to places."""

from __future__ import annotations

import json

import pytest

from geofix.client import Alternative, Cell, Location, Neighbor

LOCATION = Location(
    lat=10,
    lon=179.5,
    localizable=True,
    method="cell_search",
    strategy="posterior",
    radii={0.9: 200_000, 0.5: 20_000},
    calibrated=True,
    alternatives=(Alternative(10, 179, 0.75, 7), Alternative(-5, 6, 0.25, 1)),
    cells=(Cell(9, -0.5, 7, 8, 20, ("04", "0c")),),
    neighbors=(Neighbor("ab", 9, 10, 3, 0.5, 0.125, -1, "p", "a"),),
)


def test_every_part_of_an_answer_is_a_feature() -> None:
    collection = json.loads(json.dumps(LOCATION.geojson()))
    assert collection["type"] == "FeatureCollection"
    kinds = [feature["properties"]["kind"] for feature in collection["features"]]
    assert kinds == ["estimate", "radius", "radius", "alternative", "alternative", "cell", "neighbor"]
    estimate, small, large, first, _, cell, neighbor = collection["features"]
    assert estimate["geometry"] == {"type": "Point", "coordinates": [179.5, 10]}, "longitude first"
    assert estimate["properties"]["radii_m"] == {"0.9": 200_000, "0.5": 20_000}
    assert (small["properties"]["probability"], small["geometry"]["type"]) == (0.5, "Polygon")
    assert (large["properties"]["probability"], large["geometry"]["type"]) == (0.9, "MultiPolygon")
    assert len(large["geometry"]["coordinates"]) == 2, "cut at the antimeridian"
    assert first["properties"] == {"kind": "alternative", "rank": 1, "weight": 0.75, "neighbors": 7}
    assert cell["properties"]["s2_tokens"] == ["04", "0c"]
    assert (neighbor["properties"]["similarity"], neighbor["geometry"]["coordinates"]) == (0.5, [10, 9])


def test_an_answer_without_radius_is_a_point() -> None:
    (feature,) = Location(1, 2, False, "cell_mean", "posterior").geojson()["features"]
    assert feature["properties"]["localizable"] is False


def test_distances_are_metres_on_the_great_circle() -> None:
    here = Location(0, 0, True, "cell_search", "posterior")
    degree = 111_195.08
    assert here.distance_to((0, 1)) == pytest.approx(degree, abs=0.01)
    assert here.distance_to(Location(-1, 0, True, "", "")) == pytest.approx(degree, abs=0.01)
    assert LOCATION.distance_to(LOCATION.alternatives[0]) == pytest.approx(54_753, abs=1)
    assert LOCATION.distance_to((10, -180)) == pytest.approx(54_753, abs=1), "across the antimeridian"
