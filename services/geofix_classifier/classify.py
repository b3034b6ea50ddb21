"""From images or features to cell scores: one pass of the backbone, one of the mixture head. Knows nothing of gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, CLASSIFIER, EMBEDDER, Bundle
from geofix.onnx import ElasticSession, OnnxSession
from geofix.placement import Placement
from geofix.posterior import CellScores

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Classification:
    """What the networks say of one image.

    Its feature (feature_dim,), log weights of all cells (cells,), its domain score; its unit embedding (embedding_dim,) where the
    classifier embeds.
    """

    feature: Array
    log_weights: Array
    domain_score: float
    embedding: Array | None = None


class Classifier:
    """The backbone and the mixture head of a bundle; where features are embedded too, its retrieval module.

    Raises:
        MismatchError: the bundle is damaged, or the execution provider asked for is not to be had.
    """

    def __init__(self, bundle: Bundle, placement: Placement, also_embed: bool = False) -> None:
        self.bundle = bundle
        self.cells = bundle.cells
        self._backbone = ElasticSession(bundle.path(BACKBONE), placement)
        self._head = OnnxSession(bundle.path(CLASSIFIER), placement.small_providers, 1, placement.sizes)
        self._module: OnnxSession | None = None
        if also_embed:
            self._module = OnnxSession(bundle.path(EMBEDDER), placement.small_providers, 1, placement.sizes)
        self._sizes = placement.sizes
        self.providers = self._backbone.providers

    @property
    def embeds(self) -> bool:
        """Whether classifications have an embedding."""
        return self._module is not None

    @property
    def probe(self) -> Array:
        """A grey image as the network's input, shape (3, size, size), or a zero feature where the bundle takes no images.

        It warms the device up, and finds out whether it works.
        """
        manifest = self.bundle.manifest
        if manifest.takes == "feature":
            return np.zeros(manifest.feature_dim, np.float32)
        size = manifest.preprocessing.size
        return np.zeros((3, size, size), np.float32)

    def warm_up(self) -> None:
        """Passes of every batch size, so that no request pays for memory and kernels."""
        for size in self._sizes:
            self._backbone.warm_up(np.stack([self.probe] * size))
            self.classify([self.probe] * size)

    def classify(self, batch: Sequence[Array]) -> list[Classification]:
        """Classifications of inputs of one shape, (3, height, width), or of features, (feature_dim,)."""
        stacked = np.stack(batch)
        features = stacked if stacked.ndim == 2 else self._backbone.run(stacked)["feature"]
        scored = self._head.run(features)
        embeddings = [None] * len(features) if self._module is None else self._module.run(features)["embedding"]
        return [
            Classification(feature, log_weights, float(domain), embedding)
            for feature, log_weights, domain, embedding in zip(
                features, scored["log_weights"], scored["domain_score"], embeddings, strict=True
            )
        ]

    def scores(self, found: Classification, max_cells: int) -> CellScores:
        """The best `max_cells` cells of a classification."""
        return CellScores.best_of(found.log_weights.astype(float), self.cells.xyz, found.domain_score, max_cells)
