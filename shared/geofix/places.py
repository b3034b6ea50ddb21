"""Names of places, offline: "near Aswan, Egypt".

The list is derived from GeoNames (https://www.geonames.org, CC BY 4.0) by tools/make_places.py, which says what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from geofix.geo import FloatArray, distance_km, latlon_to_xyz

NEAR_KM = 75.0
"""Up to here an estimate is "near" a place; beyond, the distance is told."""


@dataclass(frozen=True)
class Place:
    """A populated place: its name, its country's name, where it is (degrees), and how far it is from what was asked, km."""

    name: str
    country: str
    lat: float
    lon: float
    away_km: float

    def __str__(self) -> str:
        # Singapore, Singapore and the like say one thing twice.
        name = self.name if self.name == self.country else f"{self.name}, {self.country}"
        return f"near {name}" if self.away_km <= NEAR_KM else f"{self.away_km:,.0f} km from {name}"


def nearest_place(lat: float, lon: float) -> Place:
    """The populated place nearest to (lat, lon), degrees."""
    places = _places()
    here = latlon_to_xyz(lat, lon)
    # float64: a float32 dot product tells places apart only where they differ by some 2 km.
    index = int(np.argmax(places.xyz @ here))
    found = places.lat[index], places.lon[index]
    away = float(distance_km(here, latlon_to_xyz(*found)))
    return Place(places.names[index], places.countries[places.country[index]], float(found[0]), float(found[1]), away)


def describe(lat: float, lon: float) -> str:
    """A short description of (lat, lon), degrees: "near Aswan, Egypt", "612 km from Hanga Roa, Chile"."""
    return str(nearest_place(lat, lon))


@dataclass(frozen=True)
class _Places:
    lat: FloatArray
    lon: FloatArray
    xyz: FloatArray
    country: NDArray[np.uint8]
    names: list[str]
    countries: list[str]


@cache
def _places() -> _Places:
    with (resources.files("geofix") / "data/places.npz").open("rb") as file, np.load(file, allow_pickle=False) as data:
        lat, lon = data["lat"].astype(float), data["lon"].astype(float)
        return _Places(
            lat,
            lon,
            latlon_to_xyz(lat, lon),
            data["country"],
            data["names"].tobytes().decode().split("\n"),
            data["countries"].tobytes().decode().split("\n"),
        )
