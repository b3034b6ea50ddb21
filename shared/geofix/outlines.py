"""Outlines of S2 cells on a map: their true edges, as GeoJSON.

The corners follow the cell hierarchy of https://s2geometry.io/devguide/s2cell_hierarchy: a cell is a square of a cube's face in
the coordinates (s, t), which the quadratic transform takes to (u, v), in which great circles are straight lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import numpy as np
import s2cell
from numpy.typing import NDArray

from geofix.geo import FloatArray, xyz_to_latlon

Ring = list[tuple[float, float]]
"""lon, lat in degrees; the first point comes again at the end."""

_LEAF_LEVEL = 30
_DECIMALS = 5  # a metre


def outline(s2_tokens: Iterable[str]) -> dict[str, object]:
    """The GeoJSON MultiPolygon (RFC 7946: longitudes in [-180, 180], cut at the antimeridian) of the S2 cells with these tokens.

    Raises:
        ValueError: a token is none.
    """
    polygons = [[list(map(list, ring))] for token in s2_tokens for ring in rings(token)]
    return {"type": "MultiPolygon", "coordinates": polygons}


@lru_cache(maxsize=4096)
def rings(s2_token: str) -> tuple[Ring, ...]:
    """The outer rings of one S2 cell, counterclockwise: one, or two where the antimeridian cuts it.

    Raises:
        ValueError: the token is none.
    """
    try:
        s2_id = s2cell.token_to_cell_id(s2_token)
        level = s2cell.cell_id_to_level(s2_id)
    except (ValueError, s2cell.InvalidToken, s2cell.InvalidCellID) as error:
        raise ValueError(f"{s2_token!r} is not the token of an S2 cell") from error
    lat, lon = xyz_to_latlon(_boundary(s2_id, level))
    return tuple(cut_at_antimeridian(np.append(lat, lat[0]), np.append(lon, lon[0])))


def cut_at_antimeridian(lat: FloatArray, lon: FloatArray) -> list[Ring]:
    """The pieces, with longitudes in [-180, 180], of a closed ring in degrees, shape (n,), whose steps go the short way round.

    A pole inside the ring, or on it, becomes an edge of the map.
    """
    lat, lon = _unrolled(lat, lon)
    ring = list(zip(lon.tolist(), lat.tolist(), strict=True))
    pieces = []
    for turn in range(int(np.floor((lon.min() + 180) / 360)), int(np.ceil((lon.max() + 180) / 360))):
        west = -180.0 + 360 * turn
        piece = _half(_half(ring, west, 1), west + 360, -1)
        if len({round(x, _DECIMALS) for x, _ in piece}) > 1:
            pieces.append([(round(x - 360 * turn, _DECIMALS), round(y, _DECIMALS)) for x, y in piece])
    return pieces


def _boundary(s2_id: int, level: int) -> FloatArray:
    """Points along the edges, shape (n, 3), not closed; so close that straight lines between them pass for great circles."""
    face, i, j = s2cell.s2_cell_id_to_face_ij(s2_id)
    size = 1 << (_LEAF_LEVEL - level)
    s0, t0, side = (i & -size) / 2**_LEAF_LEVEL, (j & -size) / 2**_LEAF_LEVEL, 2.0**-level
    (u0, u1), (v0, v1) = _uv(np.array([s0, s0 + side])), _uv(np.array([t0, t0 + side]))
    along = np.linspace(0, 1, max(1, 128 >> level), endpoint=False)
    u = np.concatenate(
        [u0 + (u1 - u0) * along, np.full_like(along, u1), u1 + (u0 - u1) * along, np.full_like(along, u0)]
    )
    v = np.concatenate(
        [np.full_like(along, v0), v0 + (v1 - v0) * along, np.full_like(along, v1), v1 + (v0 - v1) * along]
    )
    return _xyz(face, u, v)


def _uv(s: FloatArray) -> FloatArray:
    return np.where(s >= 0.5, (4 * s * s - 1) / 3, (1 - 4 * (1 - s) ** 2) / 3)


def _xyz(face: int, u: FloatArray, v: FloatArray) -> FloatArray:
    one = np.ones_like(u)
    axes = [(one, u, v), (-u, one, v), (-u, -v, one), (-one, -v, -u), (v, -one, -u), (v, u, -one)][face]
    return np.stack(axes, axis=-1)


def _unrolled(lat: FloatArray, lon: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The closed ring with longitudes that go on past ±180."""
    lat, lon = lat[:-1], lon[:-1]
    poles: NDArray[np.intp] = np.flatnonzero(np.abs(lat) > 90 - 1e-9)
    for at in poles:  # of an S2 cell one at most: the corner of the four cells that meet there
        before, after = lon[at - 1], lon[(at + 1) % len(lon)]
        lat, lon = np.insert(lat, at, lat[at]), np.insert(lon, at, before)
        lon[at + 1] = after
    lat, lon = np.append(lat, lat[0]), np.unwrap(np.append(lon, lon[0]), period=360)
    if abs(lon[-1] - lon[0]) > 180:  # it went around a pole: along the map's edge and back
        pole = np.copysign(90.0, lat[0])
        lat, lon = np.concatenate([lat, [pole, pole, lat[0]]]), np.concatenate([lon, [lon[-1], lon[0], lon[0]]])
    return lat, lon


def _half(ring: Ring, edge: float, side: int) -> Ring:
    """What of a closed ring lies east (side 1) or west (-1) of a meridian: Sutherland and Hodgman's clipping."""
    kept: Ring = []
    for (x0, y0), (x1, y1) in pairwise(ring):
        inside0, inside1 = side * (x0 - edge) >= 0, side * (x1 - edge) >= 0
        if inside0:
            kept.append((x0, y0))
        if inside0 != inside1:
            kept.append((edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)))
    return [*kept, kept[0]] if kept else []
