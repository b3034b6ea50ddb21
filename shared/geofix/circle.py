"""A circle on the Earth as polygons for a flat map: cut at the antimeridian, closed along the poles."""

from __future__ import annotations

import numpy as np

from geofix.geo import EARTH_RADIUS_KM, destination
from geofix.polygons import clip_to_box

Ring = list[tuple[float, float]]
"""(lon, lat) in degrees, counter-clockwise, the first again at the end."""


def circle_rings(lat: float, lon: float, radius_m: float, points: int = 72) -> list[Ring]:
    """The region within `radius_m` metres of (lat, lon), degrees, as polygons between -180° and 180° of longitude.

    One ring, or two where it crosses the antimeridian (RFC 7946, section 3.1.9). A circle is symmetric about its centre's
    meridian, so its western edge from north to south and the eastern one back are its outline; where a pole is inside, both
    edges begin at the far meridian and run along the pole.

    Args:
        lat: degrees.
        lon: degrees.
        radius_m: metres on the great circle, more than 0; half the Earth's circumference and more is everything.
        points: corners of the outline.
    """
    radius = min(radius_m / 1000 / EARTH_RADIUS_KM, np.pi)
    bearings = np.linspace(0, 180, points // 2 + 1)
    lats, lons = destination(lat, 0.0, bearings, radius * EARTH_RADIUS_KM)
    eastern = list(zip(np.abs(lons), lats, strict=True))
    if np.radians(lat) + radius >= np.pi / 2:
        eastern[:1] = [(180, 90), (180, lats[0])]
    if np.radians(lat) - radius <= -np.pi / 2:
        eastern[-1:] = [(180, lats[-1]), (180, -90)]
    east = np.array(eastern)
    outline = np.concatenate([east * (-1, 1), east[::-1]]) + np.array([lon, 0.0])
    pieces = (clip_to_box(outline - (360 * turn, 0), (-180, 180), (-90, 90)) for turn in (-1, 0, 1))
    # A polygon that only touches the antimeridian has no area beyond it.
    wide = [piece for piece in pieces if len(piece) > 2 and np.ptp(piece[:, 0]) > 1e-9]
    return [[(x, y) for x, y in [*piece.tolist(), piece[0].tolist()]] for piece in wide]
