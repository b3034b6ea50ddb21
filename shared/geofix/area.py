"""Areas that an answer is asked to lie in: circles, boxes of degrees, countries; and which cells may reach into one.

Places are degrees (`lat` in [-90, 90], `lon` in [-180, 180]) or unit vectors (`xyz`, last axis of length 3); arrays broadcast.
Edges belong to an area.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.geo import EARTH_RADIUS_KM, FloatArray, distance_km, latlon_to_xyz, xyz_to_latlon

if TYPE_CHECKING:
    from geofix.cells import Cells

Mask = NDArray[np.bool_]

HALF_WAY_ROUND_M = math.pi * EARTH_RADIUS_KM * 1000
"""The largest distance on the sphere, metres."""
REACH = 3.0
"""A cell reaches this many spreads (1 / sqrt(kappa) radians) from its component's mean: 99 % of a von Mises-Fisher's mass."""

_S2_RADIUS = 0.6 * 2.438654594434021
"""Times 2^-level: an upper bound of the angle between an S2 cell's centre and any place in it, radians. 2.4387 is S2's longest
diagonal of a cell (`kMaxDiag` of its quadratic projection, https://s2geometry.io/resources/s2cell_statistics), of which a corner
is about half away; the rest is for cells that are not symmetric."""


class Area(ABC):
    """A part of the Earth's surface; two that are equal hold the same places, and `str` of them is equal."""

    @abstractmethod
    def contains(self, lat: ArrayLike, lon: ArrayLike) -> Mask:
        """Which places, degrees of shape (...), lie in it."""

    @abstractmethod
    def distance_km(self, xyz: ArrayLike) -> FloatArray:
        """Great-circle distance from places, shape (n, 3), to the area, km, shape (n,); 0 inside."""

    @abstractmethod
    def bounds(self) -> tuple[Box, ...]:
        """Boxes that do not cross the antimeridian and hold, together, all of the area."""

    def contains_xyz(self, xyz: ArrayLike) -> Mask:
        """Which places, unit vectors of shape (..., 3), lie in it."""
        return self.contains(*xyz_to_latlon(xyz))


@dataclass(frozen=True)
class Box(Area):
    """All places with south ≤ lat ≤ north, and lon from west eastwards to east, degrees; west > east crosses the antimeridian.

    Raises:
        ValueError: a value is out of range, or south is north of north.
    """

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        if not -90 <= self.south <= self.north <= 90:
            raise ValueError(f"a box goes from south to north within ±90 degrees, not {self.south:g} to {self.north:g}")
        if not (abs(self.west) <= 180 and abs(self.east) <= 180):
            raise ValueError(f"a box's west and east are within ±180 degrees, not {self.west:g} and {self.east:g}")

    @property
    def _span(self) -> float:
        return self.east - self.west if self.west <= self.east else self.east - self.west + 360

    def contains(self, lat: ArrayLike, lon: ArrayLike) -> Mask:
        """See `Area`; 180 and -180 are one meridian, and at a pole every lon is the same place."""
        lats, lons = np.asarray(lat, float), np.asarray(lon, float)
        across = self._has_lon(lons) | (np.abs(lons) == 180) & self._has_lon(-lons) | (np.abs(lats) == 90)
        return np.asarray((lats >= self.south) & (lats <= self.north) & across)

    def distance_km(self, xyz: ArrayLike) -> FloatArray:
        """See `Area`."""
        places = np.asarray(xyz, float).reshape(-1, 3)
        lat, lon = xyz_to_latlon(places)
        # Between its meridians the nearest place is due north or south; elsewhere it is on one of the two meridians.
        vertical = np.radians(np.maximum(0, np.maximum(self.south - lat, lat - self.north))) * EARTH_RADIUS_KM
        middle = (
            self.south + self.north
        ) / 2  # a meridian from pole to pole is an arc of a half circle, which has no plane
        sides = [latlon_to_xyz([self.south, middle, self.north], [side] * 3) for side in (self.west, self.east)]
        starts, ends = (np.concatenate([side[part] for side in sides]) for part in (slice(0, 2), slice(1, 3)))
        aside = distance_to_arcs_km(places, starts, ends)
        return np.where(self.contains(lat, lon), 0.0, np.where(self._has_lon(lon), vertical, aside))

    def bounds(self) -> tuple[Box, ...]:
        """See `Area`."""
        if self.west > self.east:
            parts = [(self.west, 180.0), (-180.0, self.east)]
        else:
            parts = [(self.west, self.east)]
            parts += [(180.0, 180.0)] if self.west == -180 and self.east < 180 else []
            parts += [(-180.0, -180.0)] if self.east == 180 and self.west > -180 else []
        boxes = [Box(self.south, west, self.north, east) for west, east in parts]
        poles = [pole for pole in (-90.0, 90.0) if self.south <= pole <= self.north and self._span < 360]
        return (*boxes, *(Box(pole, -180, pole, 180) for pole in poles))

    def _has_lon(self, lon: FloatArray) -> Mask:
        inside = (lon >= self.west, lon <= self.east)
        return np.asarray(inside[0] & inside[1] if self.west <= self.east else inside[0] | inside[1])


@dataclass(frozen=True)
class Circle(Area):
    """All places within a great-circle distance of a centre (degrees, metres).

    Raises:
        ValueError: a value is out of range.
    """

    lat: float
    lon: float
    radius_m: float

    def __post_init__(self) -> None:
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180):
            raise ValueError(f"a circle's centre is within ±90, ±180 degrees, not {self.lat:g}, {self.lon:g}")
        if not 0 < self.radius_m <= HALF_WAY_ROUND_M:
            raise ValueError(f"a circle's radius is over 0 and at most 20,015,115 m, not {self.radius_m:g}")

    def contains(self, lat: ArrayLike, lon: ArrayLike) -> Mask:
        """See `Area`."""
        return np.asarray(self._away_km(latlon_to_xyz(lat, lon)) <= self.radius_m / 1000)

    def distance_km(self, xyz: ArrayLike) -> FloatArray:
        """See `Area`."""
        return np.maximum(0.0, self._away_km(np.asarray(xyz, float)) - self.radius_m / 1000)

    def bounds(self) -> tuple[Box, ...]:
        """See `Area`; Bronstein's asin(sin r / cos lat) is how far east and west a circle reaches that holds no pole."""
        radius = self.radius_m / 1000 / EARTH_RADIUS_KM
        reach = math.degrees(radius) + 1e-9
        south, north = max(-90.0, self.lat - reach), min(90.0, self.lat + reach)
        if south == -90 or north == 90:
            return (Box(south, -180, north, 180),)
        aside = math.degrees(math.asin(min(1.0, math.sin(radius) / math.cos(math.radians(self.lat))))) + 1e-6
        return lon_box(south, self.lon - aside, north, self.lon + aside).bounds()

    def _away_km(self, xyz: FloatArray) -> FloatArray:
        return distance_km(xyz, latlon_to_xyz(self.lat, self.lon))


def lon_box(south: float, west: float, north: float, east: float) -> Box:
    """The box of a west ≤ east that may lie beyond ±180 degrees."""
    if east - west >= 360:
        return Box(south, -180, north, 180)
    west, east = ((lon + 180) % 360 - 180 if abs(lon) > 180 else lon for lon in (west, east))
    return Box(south, west, north, east)


def distance_to_arcs_km(xyz: FloatArray, starts: FloatArray, ends: FloatArray) -> FloatArray:
    """Distance, km, shape (n,), from places (n, 3) to the nearest of arcs under a half circle between unit vectors (m, 3)."""
    normal = np.cross(starts, ends)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    after_start, before_end = np.cross(normal, starts), np.cross(ends, normal)
    out = np.empty(len(xyz))
    rows = max(1, 4_000_000 // max(1, len(starts)))
    for first in range(0, len(xyz), rows):
        part = xyz[first : first + rows]
        beside = (part @ after_start.T > 0) & (part @ before_end.T > 0)
        sine = np.where(beside, np.abs(part @ normal.T), np.inf).min(axis=1)
        cosine = np.maximum(part @ starts.T, part @ ends.T).max(axis=1)
        across = np.where(np.isfinite(sine), np.arcsin(np.minimum(sine, 1)), np.pi)
        out[first : first + rows] = np.minimum(across, np.arccos(np.clip(cosine, -1, 1))) * EARTH_RADIUS_KM
    return out


def s2_places(tokens: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Centres of S2 cells, unit vectors of shape (n, 3), and how far each reaches from its centre at most, km, shape (n,)."""
    import s2cell  # the client makes areas too, and has no need of it

    ids = [s2cell.token_to_cell_id(token) for token in tokens]
    degrees = np.array([s2cell.cell_id_to_lat_lon(each) for each in ids], float).reshape(-1, 2)
    level = np.array([s2cell.cell_id_to_level(each) for each in ids], float)
    return latlon_to_xyz(*degrees.T), _S2_RADIUS * 2.0**-level * EARTH_RADIUS_KM


def may_overlap(cells: Cells, area: Area) -> Mask:
    """Which cells, shape (len(cells),), may hold a place of the area.

    A cell's places are those of its S2 cells and, where the partition dropped an S2 cell, places around its component's mean, of
    which those within 3 spreads are considered. Otherwise a cell that is left out has no place in the area.
    """
    owner = np.array([cell for cell, tokens in enumerate(cells.s2_tokens) for _ in tokens], np.int64)
    centre, reach_km = s2_places([token for tokens in cells.s2_tokens for token in tokens])
    xyz = np.concatenate([centre, cells.xyz])
    reach = np.concatenate([reach_km, REACH / np.sqrt(cells.kappa) * EARTH_RADIUS_KM])
    overlaps = np.zeros(len(cells), bool)
    overlaps[np.concatenate([owner, np.arange(len(cells))])[area.distance_km(xyz) <= reach]] = True
    return overlaps
