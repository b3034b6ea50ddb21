"""A flat map of a part of the Earth as SVG paths, offline: land and borders from the outlines that areas are made of.

Places are drawn equirectangularly, true to scale on the middle parallel, and across the antimeridian without a seam.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from geofix.countries import country_rings
from geofix.geo import FloatArray
from geofix.polygons import clip_to_box

_WORLD = 80.0
"""Half a height, degrees, from which on the whole Earth is shown."""


@dataclass(frozen=True)
class View:
    """A window on the Earth, and the pixels that it is drawn on.

    Attributes:
        lat: degrees, of the middle.
        lon: degrees, of the middle.
        half_height: degrees from the middle to the upper edge.
        width: pixels; as wide as twice the height.
    """

    lat: float
    lon: float
    half_height: float
    width: int

    @classmethod
    def around(cls, lat: float, lon: float, reach: float, width: int) -> View:
        """The window that shows `reach` degrees of the great circle on every side of (lat, lon), degrees."""
        if reach >= _WORLD or abs(lat) + reach > 88:
            return cls(0.0, lon, 90.0, width)
        return cls(lat, lon, reach, width)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.width // 2

    def project(self, lon: ArrayLike, lat: ArrayLike) -> FloatArray:
        """Pixels (x, y), shape (..., 2), of places in degrees, on the side of the Earth that is nearest to the middle."""
        turned = (np.asarray(lon, float) - self.lon + 180) % 360 - 180
        return self._pixels(turned, np.asarray(lat, float))

    def path(self, rings: Iterable[ArrayLike], step: float = 1.0) -> str:
        """The `d` of an SVG path for rings of lon, lat in degrees, each of shape (n, 2).

        Args:
            rings: polygons; one across the antimeridian may jump from one side to the other, or go on past ±180.
            step: pixels that corners are rounded to.
        """
        return "".join(self._drawn(_unrolled(np.asarray(ring, float)), step) for ring in rings)

    def land(self, step: float = 1.0) -> str:
        """The `d` of an SVG path of the countries in the window."""
        rings, boxes = _countries()
        reach = self.width / self.height * self.half_height / np.cos(np.radians(self.lat))
        west, east, south, north = boxes.T
        shown = np.hypot(east - west, north - south) * self.height / (2 * self.half_height) >= step
        apart = np.abs((west + east) / 2 - self.lon - 360 * np.round(((west + east) / 2 - self.lon) / 360))
        near = (
            (apart <= reach + (east - west) / 2)
            & (south <= self.lat + self.half_height)
            & (north >= self.lat - self.half_height)
        )
        return "".join(self._drawn(rings[index], step) for index in np.flatnonzero(near & shown))

    def _drawn(self, ring: FloatArray, step: float) -> str:
        """A ring whose longitudes go on past ±180, wherever in the window it comes to lie."""
        lon, lat = ring[:, 0] - self.lon, ring[:, 1]
        middle = 360 * np.round((lon.min() + lon.max()) / 720)
        out = ""
        for turn in (-360.0, 0.0, 360.0):
            xy = self._pixels(lon - middle + turn, lat)
            if not (_apart(xy[:, 0], self.width) or _apart(xy[:, 1], self.height)):
                out += _moves(clip_to_box(xy, (-5, self.width + 5), (-5, self.height + 5)), step)
        return out

    def _pixels(self, turned: FloatArray, lat: FloatArray) -> FloatArray:
        scale = self.height / (2 * self.half_height)
        x = self.width / 2 + turned * np.cos(np.radians(self.lat)) * scale
        return np.stack([x, self.height / 2 - (lat - self.lat) * scale], axis=-1)


@cache
def _countries() -> tuple[list[FloatArray], FloatArray]:
    """The rings of all countries, unrolled, and their boxes, shape (n, 4): west, east, south, north."""
    rings = [_unrolled(ring) for _, ring in country_rings()]
    boxes = [(r[:, 0].min(), r[:, 0].max(), r[:, 1].min(), r[:, 1].max()) for r in rings]
    return rings, np.array(boxes)


def _unrolled(ring: FloatArray) -> FloatArray:
    """The ring, shape (n, 2), with longitudes that go on past ±180 instead of jumping; around a pole, closed along it."""
    lon, lat = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:
        lat = np.append(lat, np.copysign([90.0, 90.0], lat.mean()))
        lon = np.append(lon, [lon[-1], lon[0]])
    return np.stack([lon, lat], axis=-1)


def _apart(values: FloatArray, most: int) -> bool:
    return bool(values.max() < 0 or values.min() > most)


def _moves(xy: FloatArray, step: float) -> str:
    """A closed path with corners on a grid of `step` pixels, without those that fall together; empty for less than an area."""
    grid = np.rint(xy / step).astype(int)
    grid = grid[np.any(grid != np.roll(grid, 1, axis=0), axis=1)] if len(grid) else grid
    if len(grid) < 3:
        return ""
    digits = max(0, round(-np.log10(step)))
    moves = np.diff(grid, axis=0)
    start = " ".join(f"{value * step:.{digits}f}" for value in grid[0])
    return f"M{start}l{' '.join(f'{x * step:.{digits}f} {y * step:.{digits}f}' for x, y in moves.tolist())}z"
