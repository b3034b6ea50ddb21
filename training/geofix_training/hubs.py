"""Gallery images that are near to everything, hubs, made less near by as much as they are near to what is elsewhere.

In many dimensions some vectors are among the nearest of very many others (Radovanović, Nanopoulos and Ivanović 2010); here they
are pictures of a common kind, and speak for their place wherever such a picture was taken. As in cross-domain similarity local
scaling (Conneau et al. 2018) a row's similarity to all queries is lowered by `strength` times its mean cosine to its nearest
rows, of which those of its own place do not count.

A search knows only inner products of unit vectors, so the offset travels in two further values. With s² + c² = 1 a query q
becomes (s·q, c, 0), a row g with offset o becomes (s·g, o·s²/c, what is left to length 1); their inner product is s²·(cos + o).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.geo import FloatArray, chord_within
from geofix_training.experiment import HubConfig

EXTRA_VALUES = 2
C = 0.4
"""c of the module's formula: offsets up to c²/s² = 0.19 either way fit, and similarities shrink to 0.84 of what they were."""
S = math.sqrt(1 - C * C)
REFERENCES = 50_000
"""Rows, drawn at random, among which a row's nearest are sought: what it costs grows with the gallery, not with its square."""
CHUNK = 1024
NONE = -2.0
"""In the place of cosines that do not count."""


class Widened(nn.Module):
    """An embedder whose unit embeddings (n, e) become queries (n, e + 2) for a gallery of `widened` rows."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, feature: Tensor) -> Tensor:
        """Features (n, d) to unit embeddings (n, e + 2)."""
        embedding = self.module(feature)
        rest = embedding[:, :1] * 0
        return torch.cat([S * embedding, rest + C, rest], dim=1)


def hubness(embedding: NDArray[np.float16], xyz: FloatArray, config: HubConfig, seed: int) -> NDArray[np.float32]:
    """Of unit embeddings (n, e) at unit vectors (n, 3): the mean cosine to the nearest elsewhere, less the mean of that, (n,)."""
    count = len(embedding)
    chosen = np.arange(count)
    if count > REFERENCES:
        chosen = np.sort(np.random.default_rng(seed).choice(count, REFERENCES, replace=False))
    nearest = max(1, round(config.neighbors * len(chosen) / count))
    others, theirs = embedding[chosen].astype(np.float32), xyz[chosen]
    elsewhere = 1 - chord_within(config.beyond_km) ** 2 / 2
    found = np.zeros(count, np.float32)
    some = np.zeros(count, bool)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        cosine = embedding[part].astype(np.float32) @ others.T
        cosine[xyz[part] @ theirs.T > elsewhere] = NONE
        best = cosine if cosine.shape[1] <= nearest else np.partition(cosine, -nearest, axis=1)[:, -nearest:]
        counted = best > NONE
        some[part] = counted.any(axis=1)
        found[part] = (best * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    # Where nothing is elsewhere, nothing is known: such a row is no more of a hub than others.
    found[some] -= found[some].mean() if some.any() else 0
    return found


def widened(embedding: NDArray[np.float16], hub: NDArray[np.float32], config: HubConfig) -> NDArray[np.float16]:
    """Rows (n, e + 2), less similar to a `Widened` query by `strength` times their hubness (n,), as far as that fits."""
    offset = np.clip(-config.strength * hub * S**2 / C, -C, C)
    rest = np.sqrt(np.maximum(0.0, C**2 - offset**2))
    return np.concatenate([S * embedding.astype(np.float32), offset[:, None], rest[:, None]], axis=1).astype(np.float16)
