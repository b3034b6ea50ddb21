"""From backbone features to unit embeddings: the residual retrieval module. Knows nothing of gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, EMBEDDER, Bundle
from geofix.onnx import ElasticSession, OnnxSession
from geofix.placement import Placement

Array = NDArray[np.float32]


class Embedder:
    """The retrieval module of a bundle and, where images are embedded too, its backbone.

    Raises:
        MismatchError: the bundle is damaged, or the execution provider asked for is not to be had.
    """

    def __init__(self, bundle: Bundle, placement: Placement, embed_images: bool) -> None:
        self.bundle = bundle
        self._sizes = placement.sizes
        self._module = OnnxSession(bundle.path(EMBEDDER), placement.small_providers, 1, placement.sizes)
        self._backbone = ElasticSession(bundle.path(BACKBONE), placement) if embed_images else None
        self.providers = self._module.providers

    @property
    def embeds_images(self) -> bool:
        """Whether it has a backbone."""
        return self._backbone is not None

    @property
    def probe(self) -> Array:
        """A zero feature, shape (feature_dim,): warms the device up, and finds out whether it works."""
        return np.zeros(self.bundle.manifest.feature_dim, np.float32)

    def warm_up(self) -> None:
        """Passes of every batch size, so that no request pays for memory and kernels."""
        for size in self._sizes:
            self.embed([self.probe] * size)

    def embed(self, batch: Sequence[Array]) -> list[Array]:
        """Unit embeddings, shape (embedding_dim,), of features, (feature_dim,), or of network inputs of one shape, (3, h, w)."""
        stacked = np.stack(batch)
        if stacked.ndim > 2:
            assert self._backbone is not None
            stacked = self._backbone.run(stacked)["feature"]
        return list(self._module.run(stacked)["embedding"])
