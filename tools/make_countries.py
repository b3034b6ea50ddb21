"""Derives shared/geofix/data/countries.npz, the outlines of countries, from Natural Earth's 1:50m map (npm's `world-atlas`).

    npm pack world-atlas@2.0.2 i18n-iso-countries@7.14.0
    python tools/make_countries.py world-atlas-2.0.2.tgz i18n-iso-countries-7.14.0.tgz

Natural Earth is in the public domain. Places are kept on the package's own grid of 0.0036 by 0.0017 degrees (400 by 200 m). What
it draws without a number of ISO 3166-1 goes to the country that ISO counts it to; parts of France, Norway and the Netherlands
that have a code of their own are found under both codes.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "shared/geofix/data/countries.npz"
WITHOUT_NUMBER = {"Kosovo": "XK", "N. Cyprus": "CY", "Somaliland": "SO"}
"""XK is the code in use for Kosovo, of those that ISO leaves to users."""
PARTS = {
    # code: (the country that draws it, south, west, north, east), degrees
    "GF": ("FR", 2, -55, 6, -51),
    "GP": ("FR", 15.7, -62, 16.6, -60.9),
    "MQ": ("FR", 14.3, -61.3, 15, -60.7),
    "RE": ("FR", -21.5, 55, -20.7, 56),
    "YT": ("FR", -13.2, 44.9, -12.5, 45.4),
    "SJ": ("NO", 70.5, -10, 81, 35),
    "BQ": ("NL", 11.9, -68.5, 17.8, -62.8),
}

Ring = list[tuple[int, int]]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", type=Path, help="the package world-atlas")
    parser.add_argument("codes", type=Path, help="the package i18n-iso-countries")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    topology = _member(options.atlas, "package/countries-50m.json")
    alpha2 = {numeric: code for code, _, numeric, _ in _member(options.codes, "package/codes.json")}

    arcs = [_decoded(arc) for arc in topology["arcs"]]
    countries: dict[str, list[Ring]] = defaultdict(list)
    for shape in topology["objects"]["countries"]["geometries"]:
        code = alpha2.get(shape.get("id"), WITHOUT_NUMBER.get(shape["properties"]["name"]))
        polygons = {"Polygon": [shape["arcs"]], "MultiPolygon": shape["arcs"]}[shape["type"]]
        if code is not None:
            countries[code] += [_joined(ring, arcs) for polygon in polygons for ring in polygon]
    scale, origin = np.array(topology["transform"]["scale"]), np.array(topology["transform"]["translate"])
    for code, (owner, *box) in PARTS.items():
        inside = [ring for ring in countries[owner] if _is_inside(ring, scale, origin, box)]
        if inside:
            countries[code] = inside

    codes = sorted(countries)
    rings = [(index, ring) for index, code in enumerate(codes) for ring in countries[code]]
    # Differences along a ring are small numbers, and pack well.
    steps = np.concatenate([np.diff(np.array(ring, np.int32), axis=0, prepend=0) for _, ring in rings])
    np.savez_compressed(
        options.output,
        steps=steps.astype(np.int32),
        ring_length=np.array([len(ring) for _, ring in rings], np.int32),
        ring_country=np.array([index for index, _ in rings], np.int16),
        scale=scale,
        origin=origin,
        codes=np.frombuffer("".join(codes).encode(), np.uint8),
    )
    size = options.output.stat().st_size
    print(f"{options.output}: {len(codes)} countries, {len(rings):,} rings, {len(steps):,} places, {size:,} bytes")


def _member(package: Path, name: str) -> Any:
    with tarfile.open(package) as archive:
        file = archive.extractfile(name)
        assert file is not None, name
        return json.load(file)


def _decoded(arc: list[list[int]]) -> Ring:
    return [(int(x), int(y)) for x, y in np.cumsum(np.array(arc), axis=0)]


def _joined(indices: list[int], arcs: list[Ring]) -> Ring:
    """A closed ring: a negative index ~i is arc i backwards, and the end of one arc is the beginning of the next."""
    ring: Ring = []
    for index in indices:
        arc = arcs[index] if index >= 0 else arcs[~index][::-1]
        ring += arc[1:] if ring else arc
    assert ring[0] == ring[-1], "a ring that is not closed"
    return ring


def _is_inside(ring: Ring, scale: Any, origin: Any, box: list[float]) -> bool:
    lon, lat = (np.array(ring) * scale + origin).T
    south, west, north, east = box
    return bool(lat.min() >= south and lat.max() <= north and lon.min() >= west and lon.max() <= east)


if __name__ == "__main__":
    main()
