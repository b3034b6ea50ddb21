"""From backbone features to unit embeddings: the residual retrieval module. Knows nothing of gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, EMBEDDER, Bundle
from geofix.images import ImageLimits, decode, prepare
from geofix.onnx import OnnxSession


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

    def warm_up(self) -> None:
        """One pass over a zero feature, so that the first request does not pay for memory and kernels."""
        self.embed(np.zeros((1, self.bundle.manifest.feature_dim), np.float32))

    def feature(self, data: bytes, limits: ImageLimits) -> NDArray[np.float32]:
        """The backbone's feature of an image file, shape (feature_dim,).

        Raises:
            InvalidInput: see `geofix.images.decode`.
        """
        assert self._backbone is not None
        batch = prepare(decode(data, limits), self.bundle.manifest.preprocessing)[None]
        feature: NDArray[np.float32] = self._backbone.run(batch)["feature"][0]
        return feature

    def embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit embeddings, shape (n, embedding_dim), of features, shape (n, feature_dim)."""
        return self._module.run(features)["embedding"]
