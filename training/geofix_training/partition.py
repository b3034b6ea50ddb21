"""The adaptive partition of the Earth into S2 cells: fine where there are many images, coarse where there are few.

Start from the 6 faces; split the cell with most images (ties: the smaller S2 id) into its 4 children until a stop rule
holds; drop cells with too few images. Empty children stay in the queue and count in it, as in the published code.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import s2cell
from numpy.typing import ArrayLike, NDArray

from geofix.aggregate import Mode
from geofix.cells import Cells
from geofix.errors import InvalidInput
from geofix.geo import EARTH_RADIUS_KM, FloatArray, distance_km, latlon_to_xyz, mean_direction
from geofix.s2 import leaf_ids

MAX_LEVEL = 30


@dataclass(frozen=True)
class StopRule:
    """Stop when the fullest cell holds at most `max_images`, or the queue at least `max_cells`; never split at `max_level`."""

    max_images: int
    max_cells: int
    max_level: int = MAX_LEVEL


@dataclass(frozen=True)
class Partition:
    """The kept cells, by S2 id, and which points each holds.

    Attributes:
        s2_ids: shape (n,), rising.
        members: for each cell the rows of its points.
        dropped: rows of points whose cell was dropped.
    """

    s2_ids: tuple[int, ...]
    members: tuple[NDArray[np.int64], ...]
    dropped: NDArray[np.int64]


def split(lat: ArrayLike, lon: ArrayLike, stop: StopRule, min_images: int) -> Partition:
    """Partition points in degrees, shape (n,).

    Raises:
        InvalidInput: no cell holds `min_images` points.
    """
    leaves = leaf_ids(lat, lon)
    order = np.argsort(leaves, kind="stable")
    ranked = leaves[order]
    # Points in S2 order lie together inside any cell: a cell is a slice, found by bisection.
    queue = [_entry(ranked, _face(face)) for face in range(6)]
    heapq.heapify(queue)
    finished: list[tuple[int, int, int, int]] = []
    while queue and -queue[0][0] > stop.max_images and len(queue) + len(finished) < stop.max_cells:
        entry = heapq.heappop(queue)
        _, s2_id, start, end = entry
        if s2cell.cell_id_to_level(s2_id) >= stop.max_level or ranked[start] == ranked[end - 1]:
            finished.append(entry)  # identical places cannot be told apart by any split
            continue
        for child in _children(s2_id):
            heapq.heappush(queue, _entry(ranked, child))
    kept = sorted((e for e in [*queue, *finished] if e[3] - e[2] >= min_images), key=lambda e: e[1])
    if not kept:
        raise InvalidInput(
            f"no cell holds {min_images} images: there are {len(leaves)}; lower min_images or add images"
        )
    members = tuple(np.sort(order[start:end]) for _, _, start, end in kept)
    dropped = np.flatnonzero(np.bincount(np.concatenate(members), minlength=len(leaves)) == 0)
    return Partition(tuple(e[1] for e in kept), members, dropped)


def component_means(partition: Partition, lat: ArrayLike, lon: ArrayLike, mode: Mode) -> FloatArray:
    """Initial component means in degrees, shape (n, 2): of unit vectors, or (`reference`) of degrees as published."""
    lats, lons = np.asarray(lat, float), np.asarray(lon, float)
    if mode == "reference":
        return np.array([(lats[rows].mean(), lons[rows].mean()) for rows in partition.members])
    xyz = latlon_to_xyz(lats, lons)
    means = np.array([mean_direction(xyz[rows]) for rows in partition.members])
    from geofix.geo import xyz_to_latlon

    return np.stack(xyz_to_latlon(means), axis=-1)


def make_cells(partition: Partition, lat: ArrayLike, lon: ArrayLike) -> Cells:
    """Cells with mean directions and kappas that fit the points inside: kappa = 2 / mean squared chord, at least 30 km wide."""
    xyz = latlon_to_xyz(lat, lon)
    means, kappas = [], []
    for rows in partition.members:
        mean = mean_direction(xyz[rows])
        angle2 = float(((distance_km(xyz[rows], mean) / EARTH_RADIUS_KM) ** 2).mean())
        means.append(mean)
        kappas.append(2.0 / max(angle2, (30.0 / EARTH_RADIUS_KM) ** 2))
    return Cells(
        tuple((s2cell.cell_id_to_token(s2_id),) for s2_id in partition.s2_ids),
        np.array(means),
        np.array(kappas),
        np.array([len(rows) for rows in partition.members], np.int64),
    )


def _entry(ranked: NDArray[np.uint64], s2_id: int) -> tuple[int, int, int, int]:
    """(−points, id, start, end): the heap's first is the fullest cell, ties by the smaller id."""
    reach = (s2_id & -s2_id) - 1
    start = int(np.searchsorted(ranked, np.uint64(s2_id - reach), "left"))
    end = int(np.searchsorted(ranked, np.uint64(s2_id + reach), "right"))
    return start - end, s2_id, start, end


def _face(face: int) -> int:
    return (face << 61) + (1 << 60)


def _children(s2_id: int) -> list[int]:
    step = (s2_id & -s2_id) >> 2
    return [s2_id + (2 * k - 3) * step for k in range(4)]
