"""Polygons in the plane of a map: cutting them at straight lines."""

from __future__ import annotations

import numpy as np

from geofix.geo import FloatArray


def clip(outline: FloatArray, axis: int, limit: float, side: int) -> FloatArray:
    """The part of a polygon on one side of a line, shape (n, 2) -> (m, 2): Sutherland and Hodgman (CACM 17, 1974).

    Args:
        outline: its corners in order; the last is joined to the first.
        axis: 0 for a line x = limit, 1 for y = limit.
        limit: where the line is.
        side: 1 keeps what is at most `limit`, -1 what is at least it.
    """
    if not len(outline):
        return outline
    before = np.roll(outline, 1, axis=0)
    inside = side * outline[:, axis] <= side * limit
    crossing = inside != np.roll(inside, 1)
    step = outline[:, axis] - before[:, axis]
    share = np.divide(limit - before[:, axis], step, out=np.zeros_like(step), where=crossing)
    cuts = before + share[:, None] * (outline - before)
    cuts[:, axis] = limit
    corners: FloatArray = np.stack([cuts, outline], axis=1)[np.stack([crossing, inside], axis=1)]
    return corners


def clip_to_box(outline: FloatArray, x: tuple[float, float], y: tuple[float, float]) -> FloatArray:
    """The part of a polygon, shape (n, 2), inside a box: lowest and highest x, lowest and highest y."""
    for axis, limits in enumerate((x, y)):
        for limit, side in zip(limits, (-1, 1), strict=True):
            outline = clip(outline, axis, limit, side)
    return outline
