"""ClassifierService over gRPC: translates, and leaves the work to `classify`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from geofix.batching import Batcher
from geofix.batching_records import Done
from geofix.bundle import Bundle
from geofix.cpus import available_cpus
from geofix.errors import InvalidInput
from geofix.geo import xyz_to_latlon
from geofix.limits import check_batch, limits_message
from geofix.posterior import CellScores
from geofix.server import Service, starting
from geofix.sources import Array, SourceItem, is_feature, network_input
from geofix.telemetry.queues import QueueMetrics, trace_item
from geofix.v1 import classifier_service_pb2 as pb
from geofix.v1 import classifier_service_pb2_grpc as rpc
from geofix.v1 import types_pb2
from geofix.vectors import pack_vector
from geofix_classifier.classify import Classification, Classifier
from geofix_classifier.settings import ClassifierSettings

DEFAULT_CELLS = 64
MOST_CELLS = 1024


class ClassifierService(Service, rpc.ClassifierServiceServicer):
    """Serves one bundle's classifier."""

    full_name = "geofix.v1.ClassifierService"
    role = "classifier"

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        self._classifier: Classifier
        self._batcher: Batcher[SourceItem, Array, Classification] | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_ClassifierServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Verify the bundle, load the networks and warm them up."""
        self._classifier = await asyncio.to_thread(self._load)
        metrics = QueueMetrics("classifier")
        self._batcher = Batcher(
            "classifier",
            # Of a session on a device one thread is the owner; on the CPU each lane has a core of its own.
            [self._classifier.classify] * self._settings.placement.lanes,
            self._prepare,
            prepare_threads=self._settings.decode_threads or available_cpus(),
            at_once=is_feature,
            max_queue=self._settings.max_queue,
            max_batch=self._settings.placement.sizes[-1],
            key=lambda item: item.shape,
            observer=metrics,
        )
        metrics.follow(lambda: self._running.depth)

    async def check(self) -> None:
        """The networks answer; after repeated failures a grey image finds out."""
        await self._running.check(SourceItem(0, self._classifier.probe))

    def versions(self) -> tuple[str, str]:
        """The bundle's version; no gallery's."""
        return self._classifier.bundle.version, ""

    async def close(self) -> None:
        """End the threads."""
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)

    async def Classify(
        self, request: pb.ClassifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClassifyResponse:
        """See the proto."""
        check_batch(len(request.sources), self._settings.max_batch)
        count = self._cell_count(request.max_cells)
        items = [SourceItem(index, source) for index, source in enumerate(request.sources)]
        done = await self._running.submit(items, self._settings.deadline(context.time_remaining()))
        for one, source in zip(done, request.sources, strict=True):
            trace_item(one, decoded=source.HasField("image"))
        return pb.ClassifyResponse(
            results=[self._result(one, count, request.with_embedding) for one in done],
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
            embeds=self._classifier.embeds,
        )

    @property
    def _running(self) -> Batcher[SourceItem, Array, Classification]:
        if self._batcher is None:
            raise starting(self)
        return self._batcher

    def _load(self) -> Classifier:
        settings = self._settings
        classifier = Classifier(Bundle.load(settings.bundle), settings.placement, settings.also_embed)
        classifier.warm_up()
        return classifier

    def _cell_count(self, asked: int) -> int:
        if not 0 <= asked <= MOST_CELLS:
            raise InvalidInput(f"max_cells must be 0 to {MOST_CELLS}, not {asked}", metadata={"option": "max_cells"})
        return min(asked or DEFAULT_CELLS, len(self._classifier.cells))

    def _prepare(self, item: SourceItem) -> Array:
        return network_input(item, self._classifier.bundle.manifest, self._settings.image_limits)

    def _result(self, done: Done[Classification], max_cells: int, with_embedding: bool) -> pb.ClassifyResult:
        embedding = done.value.embedding if with_embedding else None
        return pb.ClassifyResult(
            scores=self._scores(self._classifier.scores(done.value, max_cells)),
            feature=pack_vector(done.value.feature),
            preprocess_ms=done.prepare_s * 1000,
            inference_ms=done.run_s * 1000,
            queue_ms=done.wait_s * 1000,
            embedding=b"" if embedding is None else pack_vector(embedding),
        )

    def _scores(self, scores: CellScores) -> types_pb2.CellScores:
        cells = self._classifier.cells
        lat, lon = xyz_to_latlon(scores.xyz)
        message = types_pb2.CellScores(
            entropy=scores.entropy, prediction_density=scores.prediction_density, domain_score=scores.domain_score
        )
        columns = (scores.cell_id, scores.log_weight, cells.kappa[scores.cell_id], lat, lon)
        # Filled field by field: constructors in one another take twice as long.
        for cell, log_weight, kappa, la, lo in zip(*(column.tolist() for column in columns), strict=True):
            weight = message.cells.add(
                cell_id=cell, log_weight=log_weight, kappa=kappa, s2_tokens=cells.s2_tokens[cell]
            )
            weight.mean.latitude, weight.mean.longitude = la, lo
        return message
