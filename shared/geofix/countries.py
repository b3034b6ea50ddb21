"""The outlines of countries as areas: Natural Earth's 1:50m map (public domain), as tools/make_countries.py derived it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike

from geofix.area import Area, Box, Mask, distance_to_arcs_km, lon_box
from geofix.geo import EARTH_RADIUS_KM, FloatArray, latlon_to_xyz

COAST_KM = 5.0
"""The map's coasts are smoothed by up to about this much, and a pier is not on it; so a place this near to a country's outline
and in no other country counts as in it. Where two countries meet, the line between them decides."""


@dataclass(frozen=True)
class Country(Area):
    """A country and its coastal waters (5 km), by its code of ISO 3166-1 alpha-2.

    Raises:
        ValueError: there is no outline for this code.
    """

    code: str

    def __post_init__(self) -> None:
        if self.code not in country_codes():
            raise ValueError(f"{self.code!r} is not the two-letter code (ISO 3166-1, capitals) of a country on the map")

    def contains(self, lat: ArrayLike, lon: ArrayLike) -> Mask:
        """See `Area`."""
        lats, lons = np.broadcast_arrays(np.asarray(lat, float), np.asarray(lon, float))
        flat_lat, flat_lon = lats.ravel(), lons.ravel()
        near = np.zeros(flat_lat.shape, bool)
        for box in self.bounds():
            near |= box.contains(flat_lat, flat_lon)
        inside = np.zeros(flat_lat.shape, bool)
        rows = np.flatnonzero(near)
        inside[rows] = self._outline.encloses(flat_lat[rows], flat_lon[rows])
        rows = rows[~inside[rows]]
        rows = rows[self._outline.distance_km(latlon_to_xyz(flat_lat[rows], flat_lon[rows])) <= COAST_KM]
        if len(rows):
            inside[rows] = ~_in_any_country(flat_lat[rows], flat_lon[rows])
        return inside.reshape(lats.shape)

    def distance_km(self, xyz: ArrayLike) -> FloatArray:
        """See `Area`; the outline's own distance less the 5 km of coast, so never too large."""
        places = np.asarray(xyz, float).reshape(-1, 3)
        return np.where(self.contains_xyz(places), 0.0, np.maximum(0, self._outline.distance_km(places) - COAST_KM))

    def bounds(self) -> tuple[Box, ...]:
        """See `Area`."""
        return self._outline.bounds

    @property
    def _outline(self) -> Outline:
        return _outlines()[self.code]


@cache
def country_codes() -> frozenset[str]:
    """The codes that `Country` knows."""
    return frozenset(_outlines())


class Outline:
    """The rings of a country: edges that are straight in degrees, and arcs on the sphere where distance is meant.

    Args:
        edges: lat and lon of start and end, degrees, shape (m, 4), each the shorter way round.
    """

    def __init__(self, edges: FloatArray) -> None:
        self._edges = edges
        self._flat = _cut_at_the_antimeridian(edges)

    def encloses(self, lat: FloatArray, lon: FloatArray) -> Mask:
        """Which places, shape (n,), lie inside: a line from there to the north pole, which is in no country, crosses it an odd
        number of times. A place on the line between two countries is in one of them.
        """
        inside = np.empty(len(lat), bool)
        lat1, lon1, lat2, lon2 = self._flat.T
        rows = max(1, 4_000_000 // len(lat1))
        for first in range(0, len(lat), rows):
            part = slice(first, first + rows)
            x, y = np.where(lon[part] == 180, -180.0, lon[part])[:, None], lat[part][:, None]
            place, edge = np.nonzero((lon1 <= x) != (lon2 <= x))
            along = (x[place, 0] - lon1[edge]) / (lon2[edge] - lon1[edge])
            above = lat1[edge] + along * (lat2[edge] - lat1[edge]) > y[place, 0]
            inside[part] = np.bincount(place[above], minlength=len(x)) % 2 == 1
        return inside

    def distance_km(self, xyz: FloatArray) -> FloatArray:
        """Distance from places, shape (n, 3), to the nearest edge, km, shape (n,)."""
        return distance_to_arcs_km(xyz, *self._arcs)

    @cached_property
    def bounds(self) -> tuple[Box, ...]:
        """The boxes of the narrowest band of meridians that holds every edge, with the coast."""
        lat = self._edges[:, (0, 2)]
        around = float(np.degrees(COAST_KM / EARTH_RADIUS_KM))
        south, north = float(lat.min()) - around, float(lat.max()) + around
        lons = np.unique(self._flat[:, (1, 3)])
        gaps = np.diff(lons, append=lons[0] + 360)
        widest = int(gaps.argmax())
        if max(-south, north) >= 89 or gaps[widest] < 5:
            return (Box(max(south, -90.0), -180, min(north, 90.0), 180),)
        aside = float(around / np.cos(np.radians(max(-south, north))))
        west, east = float(lons[(widest + 1) % len(lons)]), float(lons[widest])
        return lon_box(south, west - aside, north, (east if east >= west else east + 360) + aside).bounds()

    @cached_property
    def _arcs(self) -> tuple[FloatArray, FloatArray]:
        return latlon_to_xyz(*self._edges[:, :2].T), latlon_to_xyz(*self._edges[:, 2:].T)


def _cut_at_the_antimeridian(edges: FloatArray) -> FloatArray:
    """The edges with those across ±180 degrees cut in two, so that between lon1 and lon2 is always the way that is meant."""
    lat1, lon1, lat2, lon2 = edges.T
    across = np.abs(lon2 - lon1) > 180
    a, b, c, d = edges[across].T
    side = np.sign(b) * 180.0
    total = d + 2 * side - b  # 0 for an edge along the antimeridian itself
    cut = a + np.divide(side - b, total, out=np.zeros_like(total), where=total != 0) * (c - a)
    first, second = np.stack([a, b, cut, side], axis=1), np.stack([cut, -side, c, d], axis=1)
    return np.concatenate([np.stack([lat1, lon1, lat2, lon2], axis=1)[~across], first, second])


def _in_any_country(lat: FloatArray, lon: FloatArray) -> Mask:
    inside = np.zeros(len(lat), bool)
    for outline in _outlines().values():
        rows = np.flatnonzero(~inside & np.any([box.contains(lat, lon) for box in outline.bounds], axis=0))
        inside[rows] = outline.encloses(lat[rows], lon[rows])
    return inside


@cache
def country_rings() -> tuple[tuple[str, FloatArray], ...]:
    """Every ring of the map: the country's code, and lon, lat in degrees, shape (n, 2), the first place again at the end."""
    with (
        (resources.files("geofix") / "data/countries.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as data,
    ):
        letters: str = data["codes"].tobytes().decode()
        country, lengths, steps = data["ring_country"], data["ring_length"], data["steps"].astype(float)
        scale, origin = data["scale"], data["origin"]
    rings = np.split(steps, np.cumsum(lengths)[:-1])
    return tuple(
        (letters[2 * index : 2 * index + 2], np.cumsum(ring, axis=0) * scale + origin)
        for index, ring in zip(country, rings, strict=True)
    )


@cache
def _outlines() -> dict[str, Outline]:
    rings: dict[str, list[FloatArray]] = {}
    for code, ring in country_rings():
        lon, lat = ring.T
        rings.setdefault(code, []).append(np.stack([lat[:-1], lon[:-1], lat[1:], lon[1:]], axis=1))
    return {code: Outline(np.concatenate(parts)) for code, parts in rings.items()}
