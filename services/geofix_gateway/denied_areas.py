"""The operator's list of areas about which nothing is answered. Pure but for reading the file.

An area a line, as `geofix locate` takes them; `#` begins a comment:

    48.1,11.6,25            # a circle: lat, lon in degrees, radius in km
    47.0,10.5,48.5,13.0     # a box: south, west, north, east, degrees
    DE                      # a country, by its code of ISO 3166-1 alpha-2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from geofix.area import Area, Box, Circle, Mask
from geofix.countries import Country
from geofix.errors import ConfigurationError
from geofix.geo import FloatArray
from geofix.watched import read_bytes

SETTING = "GEOFIX_DENIED_AREAS_FILE"


def read_areas(path: Path) -> tuple[Area, ...]:
    """The areas of a file; none if it is empty.

    Raises:
        ConfigurationError: it cannot be read, or a line is no area; the message names the line.
    """
    lines = read_bytes(path, SETTING).decode(errors="replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            found.append(_area(text))
        except ValueError as error:
            raise ConfigurationError(f"{SETTING}: line {number} of {path} is no area: {error}") from error
    return tuple(found)


def in_any(areas: Sequence[Area], lat: ArrayLike, lon: ArrayLike) -> Mask:
    """Which places, degrees of shape (n,), lie in one of the areas."""
    inside = np.zeros(np.shape(lat), bool)
    for area in areas:
        inside |= area.contains(lat, lon)
    return inside


def near_any(areas: Sequence[Area], xyz: FloatArray, within_km: FloatArray) -> Mask:
    """Which places, unit vectors of shape (n, 3), are within distances, km, shape (n,), of one of the areas."""
    near = np.zeros(len(xyz), bool)
    for area in areas:
        near |= area.distance_km(xyz) <= within_km
    return near


def _area(text: str) -> Area:
    if text.isalpha():
        return Country(text)
    numbers = [float(word) for word in text.split(",")]
    match numbers:
        case [lat, lon, radius_km]:
            return Circle(lat, lon, 1000 * radius_km)
        case [south, west, north, east]:
            return Box(south, west, north, east)
    raise ValueError("say lat,lon,km or south,west,north,east or a country's code")
