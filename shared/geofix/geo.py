"""Places on the sphere: degrees at the edges, unit vectors inside.

Every array function broadcasts over leading axes. `lat` and `lon` are WGS84 degrees read as spherical coordinates, `xyz` are
unit vectors with the last axis of length 3, distances are great-circle distances on a sphere of the mean Earth radius.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = 6371.0088
"""Mean Earth radius R1 of the IUGG (Moritz, Geodetic Reference System 1980), km."""

NO_DIRECTION = 1e-12
"""Unit vectors whose sum is shorter than this, a vector, cancel out: what is left is rounding."""

FloatArray = NDArray[np.float64]


def latlon_to_xyz(lat: ArrayLike, lon: ArrayLike) -> FloatArray:
    """Unit vectors, shape (..., 3), of places in degrees, each of shape (...)."""
    phi, theta = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)


def xyz_to_latlon(xyz: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Degrees (lat, lon), lon in [-180, 180], of vectors of any positive length, shape (..., 3)."""
    v = np.asarray(xyz, float)
    # atan2 keeps its precision at the poles, where asin(z) has lost half of its digits.
    lat = np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1]))
    lon = np.arctan2(v[..., 1], v[..., 0])
    return np.degrees(lat), np.degrees(lon)


def normalise(xyz: ArrayLike) -> FloatArray:
    """The vectors, shape (..., 3), scaled to length 1.

    Raises:
        ValueError: a vector has no direction (length 0 or not finite).
    """
    v = np.asarray(xyz, float)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    if not np.all(np.isfinite(length) & (length > 0)):
        raise ValueError("a vector of length 0 has no direction")
    return np.asarray(v / length, float)


def angle_between(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Angle in radians between unit vectors, shape (...). Exact for tiny and for nearly opposite angles.

    From the chord, 2·asin(|a − b| / 2), since the arccosine of a cosine near 1 keeps no digits below 1e-8 rad (6 cm).
    """
    u, v = np.asarray(a, float), np.asarray(b, float)
    return np.asarray(2.0 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1)), float)


def distance_km(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Great-circle distance in km between unit vectors, shape (...)."""
    return EARTH_RADIUS_KM * angle_between(a, b)


def chords_between(xyz: FloatArray) -> FloatArray:
    """Chords between n unit vectors, shape (n, 3) -> (n, n)."""
    return _lengths([xyz[:, None, axis] - xyz[None, :, axis] for axis in range(3)])


def distances_between(xyz: FloatArray) -> FloatArray:
    """`distance_km` of n unit vectors from one another, shape (n, 3) -> (n, n): three planes are faster than one block."""
    across = _lengths([xyz[:, None, axis] + xyz[None, :, axis] for axis in range(3)])
    return np.asarray(2 * EARTH_RADIUS_KM * np.arctan2(chords_between(xyz), across), float)


def chord_within(distance_km: float) -> float:
    """The chord between unit vectors that are so many km apart on the Earth, for searches in trees of unit vectors.

    A chord grows with its great-circle distance. It is 6 mm longer (1e-9), so that rounding parts nothing.
    """
    return float(2 * np.sin(min(distance_km / EARTH_RADIUS_KM, np.pi) / 2) + 1e-9)


def haversine_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> FloatArray:
    """Great-circle distance in km between places in degrees, shape (...)."""
    return distance_km(latlon_to_xyz(lat1, lon1), latlon_to_xyz(lat2, lon2))


def mean_direction(xyz: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Normalised (weighted) mean of unit vectors, shape (n, 3) -> (3,).

    Raises:
        ValueError: the vectors cancel out, so that no mean direction exists, or there are none.
    """
    v = np.asarray(xyz, float).reshape(-1, 3)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, float)
    total = w @ v
    if len(v) == 0 or np.linalg.norm(total) <= NO_DIRECTION * max(float(np.abs(w).sum()), 1e-300):
        raise ValueError("the places have no mean direction")
    return normalise(total)


def _lengths(planes: list[FloatArray]) -> FloatArray:
    x, y, z = planes
    return np.sqrt(x * x + y * y + z * z)


def destination(lat: ArrayLike, lon: ArrayLike, bearing_deg: ArrayLike, along_km: ArrayLike) -> tuple[Any, Any]:
    """Place (lat, lon) in degrees reached from (lat, lon) along a great circle, `bearing_deg` clockwise from north."""
    phi, theta = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    alpha, delta = np.radians(np.asarray(bearing_deg, float)), np.asarray(along_km, float) / EARTH_RADIUS_KM
    north = np.stack([-np.sin(phi) * np.cos(theta), -np.sin(phi) * np.sin(theta), np.cos(phi) + 0 * theta], axis=-1)
    east = np.stack([-np.sin(theta), np.cos(theta), 0 * theta], axis=-1)
    here = latlon_to_xyz(lat, lon)
    heading = np.cos(alpha)[..., None] * north + np.sin(alpha)[..., None] * east
    return xyz_to_latlon(np.cos(delta)[..., None] * here + np.sin(delta)[..., None] * heading)
