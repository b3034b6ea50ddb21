"""ClassifierService over gRPC: translates, and leaves the work to `classify`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import grpc
import numpy as np
from google.type.latlng_pb2 import LatLng
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.errors import GeofixError, InvalidInput, Reason
from geofix.geo import xyz_to_latlon
from geofix.limits import check_batch, limits_message
from geofix.posterior import CellScores
from geofix.server import Service
from geofix.v1 import classifier_service_pb2 as pb
from geofix.v1 import classifier_service_pb2_grpc as rpc
from geofix.v1 import types_pb2
from geofix.vectors import pack_vector, unpack_vector
from geofix.workers import WorkQueue
from geofix_classifier.classify import Classification, Classifier
from geofix_classifier.settings import ClassifierSettings

DEFAULT_CELLS = 64
MOST_CELLS = 1024


class ClassifierService(Service, rpc.ClassifierServiceServicer):
    """Serves one bundle's classifier."""

    full_name = "geofix.v1.ClassifierService"

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        decoders = settings.decode_threads or os.cpu_count() or 1
        self._decoding = WorkQueue("decode", decoders, settings.max_queue)
        # One thread owns the networks: two passes at once would only share the same cores.
        self._inference = WorkQueue("inference", 1, settings.max_queue)
        self._classifier: Classifier

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_ClassifierServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Verify the bundle, load the networks and warm them up."""
        self._classifier = await asyncio.to_thread(self._load)

    async def check(self) -> None:
        """The networks are in memory: nothing can take them away."""

    async def close(self) -> None:
        """End the threads."""
        self._decoding.close()
        self._inference.close()

    async def Classify(
        self, request: pb.ClassifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClassifyResponse:
        """See the proto."""
        check_batch(len(request.sources), self._settings.max_batch)
        count = self._cell_count(request.max_cells)
        prepared = await asyncio.gather(*(self._prepare(i, s) for i, s in enumerate(request.sources)))
        results = await self._inference.run(self._classifier.classify, [item for item, _ in prepared], count)
        return pb.ClassifyResponse(
            results=[self._result(r, ms) for r, (_, ms) in zip(results, prepared, strict=True)],
            model_version=self._classifier.bundle.version,
        )

    async def GetModelInfo(
        self, request: pb.ClassifierServiceGetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClassifierServiceGetModelInfoResponse:
        """See the proto."""
        bundle = self._classifier.bundle
        return pb.ClassifierServiceGetModelInfoResponse(
            model_version=bundle.version,
            feature_dim=bundle.manifest.feature_dim,
            cell_count=bundle.manifest.cell_count,
            providers=self._classifier.providers,
            limits=limits_message(self._settings),
        )

    def _load(self) -> Classifier:
        settings = self._settings
        classifier = Classifier(Bundle.load(settings.bundle), settings.provider_list, settings.threads)
        classifier.warm_up()
        return classifier

    def _cell_count(self, asked: int) -> int:
        if not 0 <= asked <= MOST_CELLS:
            raise InvalidInput(f"max_cells must be 0 to {MOST_CELLS}, not {asked}", metadata={"option": "max_cells"})
        return min(asked or DEFAULT_CELLS, len(self._classifier.cells))

    async def _prepare(self, index: int, source: types_pb2.ImageSource) -> tuple[NDArray[np.float32], float]:
        try:
            match source.WhichOneof("source"):
                case "image":
                    started = time.perf_counter()
                    item = await self._decoding.run(
                        self._classifier.preprocess, source.image, self._settings.image_limits
                    )
                    return item, (time.perf_counter() - started) * 1000
                case "feature":
                    dim = self._classifier.bundle.manifest.feature_dim
                    return unpack_vector(source.feature, dim, Reason.FEATURE_INVALID), 0.0
                case _:
                    raise InvalidInput("neither an image nor a feature was sent", Reason.IMAGE_MISSING)
        except GeofixError as error:
            error.metadata["index"] = str(index)
            raise

    def _result(self, result: Classification, preprocess_ms: float) -> pb.ClassifyResult:
        return pb.ClassifyResult(
            scores=self._scores(result.scores),
            feature=pack_vector(result.feature),
            preprocess_ms=preprocess_ms,
            inference_ms=result.inference_ms,
        )

    def _scores(self, scores: CellScores) -> types_pb2.CellScores:
        cells = self._classifier.cells
        lat, lon = xyz_to_latlon(scores.xyz)
        return types_pb2.CellScores(
            cells=[
                types_pb2.CellWeight(
                    cell_id=int(cell),
                    log_weight=float(log_weight),
                    mean=LatLng(latitude=float(la), longitude=float(lo)),
                    kappa=float(cells.kappa[cell]),
                    s2_tokens=cells.s2_tokens[cell],
                )
                for cell, log_weight, la, lo in zip(scores.cell_id, scores.log_weight, lat, lon, strict=True)
            ],
            entropy=scores.entropy,
            prediction_density=scores.prediction_density,
            domain_score=scores.domain_score,
        )
