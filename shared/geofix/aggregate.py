"""Density-based clustering of neighbours' places on the sphere (DBSCAN; Ester et al. 1996).

Mode `geofix` averages unit vectors and normalises. Mode `reference` does what the published code does:
lat = asin(z̄), lon = atan2(ȳ, x̄) of the unnormalised mean, which drifts from the pole as a cluster widens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.geo import FloatArray, chord_within, latlon_to_xyz, mean_direction, normalise, xyz_to_latlon

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
    chord = np.sqrt(sum((v[:, None, axis] - v[None, :, axis]) ** 2 for axis in range(3)))
    model = DBSCAN(eps=chord_within(eps_km), min_samples=min_samples, metric="precomputed")
    with config_context(assume_finite=True):  # looking at a hundred places again takes longer than to cluster them
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
    found = [np.flatnonzero(labels == label) for label in sorted(set(labels.tolist()) - {-1})]
    found.sort(key=lambda members: (-len(members), int(members[0])))
    return [Cluster(tuple(int(i) for i in members), _centre(v[members])) for members in found]


def _centre(xyz: FloatArray) -> FloatArray:
    if len(xyz) == 1:  # most clusters are one place
        return np.asarray(xyz[0])
    try:
        return mean_direction(xyz)
    except ValueError:  # places that cancel out (both ends of a diameter): the best match stands for them
        return np.asarray(xyz[0])


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
    members = list(largest[0].members) if largest else [0]
    if mode == "reference":
        x, y, z = xyz[members].mean(axis=0)
        return float(np.degrees(np.arcsin(np.clip(z, -1, 1)))), float(np.degrees(np.arctan2(y, x)))
    out_lat, out_lon = xyz_to_latlon(normalise(_centre(xyz[members])))
    return float(out_lat), float(out_lon)
