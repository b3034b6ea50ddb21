"""From images or features to cell scores: one pass of the backbone, one of the mixture head. Knows nothing of gRPC."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, CLASSIFIER, Bundle
from geofix.images import ImageLimits, decode, prepare
from geofix.onnx import OnnxSession
from geofix.posterior import CellScores


@dataclass(frozen=True)
class Classification:
    """One image's scores, its feature (feature_dim,) and the time that the networks took for its batch."""

    scores: CellScores
    feature: NDArray[np.float32]
    inference_ms: float


class Classifier:
    """The backbone and the mixture head of a bundle.

    Raises:
        MismatchError: the bundle is damaged, or the execution provider asked for is not to be had.
    """

    def __init__(self, bundle: Bundle, providers: Sequence[str], threads: int) -> None:
        self.bundle = bundle
        self.cells = bundle.cells
        self._backbone = OnnxSession(bundle.path(BACKBONE), providers, threads)
        self._head = OnnxSession(bundle.path(CLASSIFIER), providers, threads)
        self.providers = self._backbone.providers

    def warm_up(self) -> None:
        """One pass over a grey image, so that the first request does not pay for memory and kernels."""
        size = self.bundle.manifest.preprocessing.size
        self.classify([np.zeros((3, size, size), np.float32)], 1)

    def preprocess(self, data: bytes, limits: ImageLimits) -> NDArray[np.float32]:
        """The network's input for a file's bytes, shape (3, height, width).

        Raises:
            InvalidInput: see `geofix.images.decode`.
        """
        return prepare(decode(data, limits), self.bundle.manifest.preprocessing)

    def classify(self, inputs: Sequence[NDArray[np.float32]], max_cells: int) -> list[Classification]:
        """Scores of a batch whose items are inputs, shape (3, height, width), or features, shape (feature_dim,)."""
        started = time.perf_counter()
        features = self._features(inputs)
        scored = self._head.run(features)
        elapsed = (time.perf_counter() - started) * 1000
        return [
            Classification(
                CellScores.best_of(log_weights.astype(float), self.cells.xyz, float(domain), max_cells),
                feature,
                elapsed,
            )
            for feature, log_weights, domain in zip(
                features, scored["log_weights"], scored["domain_score"], strict=True
            )
        ]

    def _features(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        features = np.empty((len(inputs), self.bundle.manifest.feature_dim), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for position, item in enumerate(inputs):
            if item.ndim == 1:
                features[position] = item
            else:
                by_shape.setdefault(item.shape, []).append(position)
        for positions in by_shape.values():  # images of one shape share a pass
            features[positions] = self._backbone.run(np.stack([inputs[p] for p in positions]))["feature"]
        return features
