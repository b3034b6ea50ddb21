"""S2 leaf cells of many places at once (the Hilbert curve of Google's S2 geometry, quadratic projection).

The package `s2cell` computes one place at a time, some 10 µs each; a partition or a gallery needs millions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.geo import latlon_to_xyz

_BITS = 30
_SWAP, _INVERT = 1, 2
# Position of the four (i, j) quadrants along the curve, and the orientation inside each, for the four orientations of a cell.
_IJ_TO_POS = np.array([[0, 1, 3, 2], [0, 3, 1, 2], [2, 3, 1, 0], [2, 1, 3, 0]], np.uint8)
_POS_TO_ORIENTATION = np.array([_SWAP, 0, 0, _INVERT | _SWAP], np.uint8)


def leaf_ids(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.uint64]:
    """S2 ids of the leaf cells (level 30) that contain places in degrees, shape (n,)."""
    face, u, v = _face_uv(latlon_to_xyz(np.ravel(np.asarray(lat, float)), np.ravel(np.asarray(lon, float))))
    i, j = _to_ij(u), _to_ij(v)
    ids = face.astype(np.uint64)
    orientation = (face & _SWAP).astype(np.uint8)
    for bit in range(_BITS - 1, -1, -1):
        quadrant = (((i >> bit) & 1) << 1 | ((j >> bit) & 1)).astype(np.uint8)
        position = _IJ_TO_POS[orientation, quadrant]
        ids = ids << np.uint64(2) | position.astype(np.uint64)
        orientation ^= _POS_TO_ORIENTATION[position]
    return ids << np.uint64(1) | np.uint64(1)


def parents(ids: NDArray[np.uint64], level: int) -> NDArray[np.uint64]:
    """The cells of `level` that contain cells of that level or finer, shape kept."""
    lowest = np.uint64(1) << np.uint64(2 * (_BITS - level))
    return ids & ~(lowest - np.uint64(1)) & ~lowest | lowest


def _face_uv(xyz: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    axis = np.abs(xyz).argmax(axis=1)
    rows = np.arange(len(xyz))
    along = xyz[rows, axis]
    face = axis + 3 * (along < 0)
    x, y, z = xyz.T
    # The two other axes over the face's own, as S2 orders and signs them.
    numerators = {0: (y, z), 1: (-x, z), 2: (-x, -y), 3: (z, y), 4: (z, -x), 5: (-y, -x)}
    first, second = np.empty(len(xyz)), np.empty(len(xyz))
    for number, (a, b) in numerators.items():
        here = face == number
        first[here], second[here] = a[here], b[here]
    return face, first / along, second / along


def _to_ij(u: NDArray[np.float64]) -> NDArray[np.int64]:
    s = np.where(u >= 0, 0.5 * np.sqrt(1 + 3 * np.maximum(u, 0)), 1 - 0.5 * np.sqrt(1 + 3 * np.maximum(-u, 0)))
    return np.asarray(np.clip(np.floor(s * (1 << _BITS)), 0, (1 << _BITS) - 1), np.int64)
