"""Gallery embeddings averaged with those of the same place, so that a place is found from more sides than one picture shows.

Database-side augmentation (Turcot and Lowe 2009; Arandjelovic and Zisserman 2012), with what a picture shares with another one
as its weight. Only what a bundle brings is averaged: what users add later stands as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geofix.geo import FloatArray, chord_within
from geofix_training.experiment import AugmentConfig


def augmented(embedding: NDArray[np.float16], xyz: FloatArray, config: AugmentConfig) -> NDArray[np.float16]:
    """Each unit embedding, (n, e), plus `share` of the mean of those within `within_km` of its place, (n, 3), of unit length.

    The mean weighs each by exp(cosine / temperature). A picture alone at its place stays as it is.
    """
    from scipy.spatial import cKDTree

    tree, chord = cKDTree(xyz), chord_within(config.within_km)
    out = embedding.copy()
    for row in range(len(embedding)):
        near = np.array(tree.query_ball_point(xyz[row], chord))
        near = near[near != row]
        if not len(near):
            continue
        own, others = embedding[row].astype(np.float32), embedding[near].astype(np.float32)
        weight = np.exp((others @ own - 1) / config.temperature)
        mixed = own + config.share * (weight @ others) / weight.sum()
        out[row] = mixed / np.linalg.norm(mixed)
    return out
