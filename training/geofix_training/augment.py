"""Gallery embeddings averaged with those of the same place, so that a place is found from more sides than one picture shows.

Database-side augmentation (Turcot and Lowe 2009; Arandjelovic and Zisserman 2012), with what a picture shares with another one
as its weight. Only what a bundle brings is averaged: what users add later stands as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geofix.geo import EARTH_RADIUS_KM, FloatArray
from geofix_training.experiment import AugmentConfig


def augmented(embedding: NDArray[np.float16], xyz: FloatArray, config: AugmentConfig) -> NDArray[np.float16]:
    """Each unit embedding, (n, e), plus `share` of the mean of those within `within_km` of its place, (n, 3), of unit length.

    The mean weighs each by exp(cosine / temperature). A picture alone at its place stays as it is.
    """
    from scipy.spatial import cKDTree

    chord = 2 * np.sin(min(config.within_km / EARTH_RADIUS_KM, np.pi) / 2) + 1e-9
    tree = cKDTree(xyz)
    out = embedding.copy()
    for row in range(len(embedding)):
        near = np.array([other for other in tree.query_ball_point(xyz[row], chord) if other != row], np.int64)
        if not len(near):
            continue
        own, others = embedding[row].astype(np.float32), embedding[near].astype(np.float32)
        weight = np.exp((others @ own - 1) / config.temperature)
        mixed = own + config.share * (weight @ others) / weight.sum()
        out[row] = mixed / np.linalg.norm(mixed)
    return out
