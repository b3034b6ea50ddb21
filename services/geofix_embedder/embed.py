"""From backbone features to unit embeddings: the residual retrieval module. Knows nothing of gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, EMBEDDER, Bundle
from geofix.onnx import OnnxSession

Array = NDArray[np.float32]


class Embedder:
    """The retrieval module of a bundle and, where images are embedded too, its backbone.

    Raises:
        MismatchError: the bundle is damaged, or the execution provider asked for is not to be had.
    """

    def __init__(self, bundle: Bundle, providers: Sequence[str], threads: int, embed_images: bool) -> None:
        self.bundle = bundle
        self._module = OnnxSession(bundle.path(EMBEDDER), providers, threads)
        self._backbone = OnnxSession(bundle.path(BACKBONE), providers, threads) if embed_images else None
        self.providers = self._module.providers

    @property
    def embeds_images(self) -> bool:
        """Whether it has a backbone."""
        return self._backbone is not None

    @property
    def probe(self) -> Array:
        """A zero feature, shape (feature_dim,): warms the device up, and finds out whether it works."""
        return np.zeros(self.bundle.manifest.feature_dim, np.float32)

    def embed(self, batch: Sequence[Array]) -> list[Array]:
        """Unit embeddings, shape (embedding_dim,), of features, (feature_dim,), or of network inputs of one shape, (3, h, w)."""
        stacked = np.stack(batch)
        if stacked.ndim > 2:
            assert self._backbone is not None
            stacked = self._backbone.run(stacked)["feature"]
        return list(self._module.run(stacked)["embedding"])
