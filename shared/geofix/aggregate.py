"""Density-based clustering of neighbours' places on the sphere (DBSCAN; Ester et al. 1996).

Mode `geofix` averages unit vectors and normalises. Mode `reference` does what the published code does:
lat = asin(z̄), lon = atan2(ȳ, x̄) of the unnormalised mean, which drifts from the pole as a cluster widens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.geo import (
    NO_DIRECTION,
    FloatArray,
    chord_within,
    chords_between,
    latlon_to_xyz,
    xyz_to_latlon,
)

Mode = Literal["geofix", "reference"]


@dataclass(frozen=True)
class Cluster:
    """Neighbours that lie together: `members` are their ranks (0 = best match), ascending; `xyz` is their mean."""

    members: tuple[int, ...]
    xyz: FloatArray

    @property
    def best_rank(self) -> int:
        """Rank of the cluster's best match."""
        return self.members[0]


def dbscan_labels(xyz: ArrayLike, eps_km: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN label of each place (unit vectors, shape (n, 3)); −1 is noise, which min_samples = 1 never leaves."""
    from sklearn import config_context  # scikit-learn takes a second to import; only the gateway and evaluation cluster
    from sklearn.cluster import DBSCAN

    v = np.asarray(xyz, float).reshape(-1, 3)
    if len(v) == 0:
        return np.empty(0, np.int64)
    # A chord grows with its great-circle distance, so this is DBSCAN under the haversine metric. With the distances given,
    # scikit-learn needs none of its thread pool, whose configuration is not safe to set from several threads of ours.
    model = DBSCAN(eps=chord_within(eps_km), min_samples=min_samples, metric="precomputed")
    chord = chords_between(v)
    # Looking at a hundred places and at two settings again takes longer than to cluster them.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return np.asarray(model.fit_predict(chord), np.int64)


def clusters_of(xyz: ArrayLike, eps_km: float, min_samples: int = 1) -> list[Cluster]:
    """Clusters of places given in order of similarity, the largest first, a tie going to the better best match.

    Args:
        xyz: unit vectors, shape (n, 3), best match first.
        eps_km: two places at most this far apart are neighbours of one another.
        min_samples: neighbours (itself included) that make a place a core point.
    """
    v = np.asarray(xyz, float).reshape(-1, 3)
    labels = dbscan_labels(v, eps_km, min_samples)
    ranks = np.flatnonzero(labels >= 0)
    ranks = ranks[np.argsort(labels[ranks], kind="stable")]
    if not len(ranks):
        return []
    starts = np.flatnonzero(np.diff(labels[ranks], prepend=-1))
    centres = _centres(v[ranks], starts)
    members = [tuple(part.tolist()) for part in np.split(ranks, starts[1:])]
    found = [Cluster(each, centre) for each, centre in zip(members, centres, strict=True)]
    return sorted(found, key=lambda cluster: (-len(cluster.members), cluster.best_rank))


def _centres(xyz: FloatArray, starts: NDArray[np.intp]) -> FloatArray:
    """The mean direction of each run of places, (n, 3), that begins at one of `starts`, (m,): shape (m, 3)."""
    total = np.add.reduceat(xyz, starts)
    size = np.diff(starts, append=len(xyz))
    length = np.sqrt((total * total).sum(axis=1))
    # One place is its own centre; of places that cancel out (both ends of a diameter) the best match stands for them.
    own = (size == 1) | (length <= NO_DIRECTION * size)
    return np.where(own[:, None], xyz[starts], total / np.where(own, 1.0, length)[:, None])


def swc_estimate(
    lat: ArrayLike, lon: ArrayLike, eps_km: float = 1.0, min_samples: int = 1, mode: Mode = "geofix"
) -> tuple[float, float]:
    """Search within Cell's estimate (degrees) from the neighbours' places, best match first: mean of the largest cluster.

    Raises:
        ValueError: there is no neighbour.
    """
    lats, lons = np.asarray(lat, float), np.asarray(lon, float)
    if lats.size == 0:
        raise ValueError("no neighbours to aggregate")
    xyz = latlon_to_xyz(lats, lons)
    largest = clusters_of(xyz, eps_km, min_samples)
    if mode == "reference":
        x, y, z = xyz[list(largest[0].members) if largest else [0]].mean(axis=0)
        return float(np.degrees(np.arcsin(np.clip(z, -1, 1)))), float(np.degrees(np.arctan2(y, x)))
    out_lat, out_lon = xyz_to_latlon(largest[0].xyz if largest else xyz[0])
    return float(out_lat), float(out_lon)
