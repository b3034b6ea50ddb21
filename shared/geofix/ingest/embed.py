"""From images to features and embeddings: by the bundle's networks in this process, or by running services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, CLASSIFIER, EMBEDDER, Bundle
from geofix.channel import channel_options
from geofix.client.connection import Connection, Tls
from geofix.cpus import available_cpus
from geofix.errors import MismatchError, Reason
from geofix.ingest.stages import Prepared
from geofix.local import TOP_CELLS
from geofix.placement import CPU, Placement
from geofix.posterior import CellScores
from geofix.v1 import (
    classifier_service_pb2,
    classifier_service_pb2_grpc,
    embedder_service_pb2,
    embedder_service_pb2_grpc,
    types_pb2,
)
from geofix.vectors import pack_vector
from geofix.wire import error_from_rpc

TIMEOUT_S = 60.0
_MESSAGE_BYTES = 32 * 1024 * 1024


class Embeds(Protocol):
    """Makes features and embeddings.

    Attributes:
        wants_pixels: whether it takes network inputs, in place of the files' bytes.
        batch: images that it takes best at a time.
        workers: calls that it takes best at the same time.
    """

    wants_pixels: bool
    batch: int
    workers: int

    def features(self, images: Sequence[Prepared]) -> NDArray[np.float32]:
        """The backbone's features, shape (n, feature_dim)."""

    def embeddings(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit embeddings, shape (n, embedding_dim), of features."""

    def cells(self, features: NDArray[np.float32]) -> list[CellScores]:
        """The best cells of features."""


class LocalNetworks:
    """The bundle's networks in this process.

    On a CPU each call computes in its own thread, as many at a time as there are cores: faster than one call on all cores, and
    decoding goes on between them; `cores` are how many, if not all. On a GPU there is one call at a time, of many images.

    Raises:
        MismatchError: the execution provider asked for is not to be had; the bundle is damaged.
    """

    wants_pixels = True

    def __init__(self, bundle: Bundle, providers: Sequence[str] = (CPU,), cores: int | None = None) -> None:
        from geofix.onnx import OnnxSession

        placement = Placement(tuple(providers))
        on_cpu = placement.on_cpu
        self.workers = (cores or available_cpus()) if on_cpu else 2
        self.batch = 4 if on_cpu else 64
        self._bundle = bundle
        threads = 1 if on_cpu else 0
        self._backbone = OnnxSession(bundle.path(BACKBONE), providers, threads)
        self._embedder, self._classifier = (
            OnnxSession(bundle.path(name), placement.small_providers, threads) for name in (EMBEDDER, CLASSIFIER)
        )

    def features(self, images: Sequence[Prepared]) -> NDArray[np.float32]:
        """The backbone's features, shape (n, feature_dim)."""
        features = np.empty((len(images), self._bundle.manifest.feature_dim), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(images):
            assert image.pixels is not None
            by_shape.setdefault(image.pixels.shape, []).append(position)
        for positions in by_shape.values():  # images of one shape share a pass
            batch = np.stack([images[p].pixels for p in positions])  # type: ignore[misc]  # asserted above
            features[positions] = self._backbone.run(batch)["feature"]
        return features

    def embeddings(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit embeddings, shape (n, embedding_dim)."""
        return self._embedder.run(features)["embedding"]

    def cells(self, features: NDArray[np.float32]) -> list[CellScores]:
        """The best cells of features."""
        scored, means = self._classifier.run(features), self._bundle.cells.xyz
        return [
            CellScores.best_of(log_weights.astype(float), means, float(domain), TOP_CELLS)
            for log_weights, domain in zip(scored["log_weights"], scored["domain_score"], strict=True)
        ]


class Services:
    """A running classifier and embedder (host:port each), of the same bundle; the classifier decodes the images."""

    wants_pixels = False
    batch = 16
    workers = 4

    def __init__(self, bundle: Bundle, classifier: str, embedder: str, tls: Tls | None = None) -> None:
        self._bundle = bundle
        self._names = f"the classifier at {classifier}", f"the embedder at {embedder}"
        options = channel_options(_MESSAGE_BYTES)
        channels = [Connection(address, tls).open(options) for address in (classifier, embedder)]
        self._classifier = classifier_service_pb2_grpc.ClassifierServiceStub(channels[0])
        self._embedder = embedder_service_pb2_grpc.EmbedderServiceStub(channels[1])

    def features(self, images: Sequence[Prepared]) -> NDArray[np.float32]:
        """The backbone's features, shape (n, feature_dim)."""
        results = self._classify([types_pb2.ImageSource(image=image.loaded.data) for image in images], 1)
        return np.stack([np.frombuffer(result.feature, "<f4") for result in results]).astype(np.float32)

    def embeddings(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit embeddings, shape (n, embedding_dim)."""
        request = embedder_service_pb2.EmbedRequest(
            sources=[types_pb2.ImageSource(feature=pack_vector(feature)) for feature in features]
        )
        try:
            response = self._embedder.Embed(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self._names[1]) from error
        self._same(self._names[1], response.model_version)
        return np.stack([np.frombuffer(vector, "<f4") for vector in response.embeddings]).astype(np.float32)

    def cells(self, features: NDArray[np.float32]) -> list[CellScores]:
        """The best cells of features."""
        sources = [types_pb2.ImageSource(feature=pack_vector(feature)) for feature in features]
        found = []
        for result in self._classify(sources, TOP_CELLS):
            cell_id = np.array([cell.cell_id for cell in result.scores.cells], np.int32)
            found.append(
                CellScores(
                    cell_id,
                    np.array([cell.log_weight for cell in result.scores.cells]),
                    self._bundle.cells.xyz[cell_id],
                    result.scores.entropy,
                    result.scores.prediction_density,
                    result.scores.domain_score,
                )
            )
        return found

    def _classify(
        self, sources: list[types_pb2.ImageSource], max_cells: int
    ) -> Sequence[classifier_service_pb2.ClassifyResult]:
        request = classifier_service_pb2.ClassifyRequest(sources=sources, max_cells=max_cells)
        try:
            response = self._classifier.Classify(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self._names[0]) from error
        self._same(self._names[0], response.model_version)
        return response.results

    def _same(self, name: str, model_version: str) -> None:
        if model_version != self._bundle.version:
            raise MismatchError(
                f"{name} serves {model_version}, the gallery is for {self._bundle.version}: use services of that bundle",
                Reason.MODEL_MISMATCH,
                {"service_model_version": model_version, "model_version": self._bundle.version},
            )
