"""EmbedderService over gRPC: translates, and leaves the work to `embed`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from geofix.batching import Batcher
from geofix.bundle import Bundle
from geofix.cpus import available_cpus
from geofix.errors import InvalidInput, Reason
from geofix.limits import check_batch, limits_message
from geofix.server import Service, starting
from geofix.sources import Array, SourceItem, is_feature, network_input
from geofix.telemetry.queues import QueueMetrics, trace_item
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from geofix.v1 import types_pb2
from geofix.vectors import pack_vector
from geofix_embedder.embed import Embedder
from geofix_embedder.settings import EmbedderSettings


class EmbedderService(Service, rpc.EmbedderServiceServicer):
    """Serves one bundle's retrieval module."""

    full_name = "geofix.v1.EmbedderService"
    role = "embedder"

    def __init__(self, settings: EmbedderSettings) -> None:
        self._settings = settings
        self._embedder: Embedder
        self._batcher: Batcher[SourceItem, Array, Array] | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_EmbedderServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Verify the bundle, load the network and warm it up."""
        self._embedder = await asyncio.to_thread(self._load)
        metrics = QueueMetrics("embedder")
        self._batcher = Batcher(
            "embedder",
            # Of a session on a device one thread is the owner; on the CPU each lane has a core of its own.
            [self._embedder.embed] * (self._settings.placement.lanes if self._settings.embed_images else 1),
            self._prepare,
            prepare_threads=available_cpus() if self._settings.embed_images else 1,
            at_once=is_feature,
            max_queue=self._settings.max_queue,
            max_batch=self._settings.placement.sizes[-1],
            key=lambda item: item.shape,
            observer=metrics,
        )
        metrics.follow(lambda: self._running.depth)

    async def check(self) -> None:
        """The network answers; after repeated failures a zero feature finds out."""
        await self._running.check(SourceItem(0, self._embedder.probe))

    def versions(self) -> tuple[str, str]:
        """The bundle's version; no gallery's."""
        return self._embedder.bundle.version, ""

    async def close(self) -> None:
        """End the threads."""
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.EmbedResponse:
        """See the proto."""
        check_batch(len(request.sources), self._settings.max_batch)
        items = [self._item(index, source) for index, source in enumerate(request.sources)]
        done = await self._running.submit(items, self._settings.deadline(context.time_remaining()))
        for one, source in zip(done, request.sources, strict=True):
            trace_item(one, decoded=source.HasField("image"))
        return pb.EmbedResponse(
            embeddings=[pack_vector(one.value) for one in done],
            model_version=self._embedder.bundle.version,
            inference_ms=max(one.run_s for one in done) * 1000,
        )

    async def GetModelInfo(
        self, request: pb.EmbedderServiceGetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedderServiceGetModelInfoResponse:
        """See the proto."""
        manifest = self._embedder.bundle.manifest
        return pb.EmbedderServiceGetModelInfoResponse(
            model_version=self._embedder.bundle.version,
            feature_dim=manifest.feature_dim,
            embedding_dim=manifest.embedding_dim,
            providers=self._embedder.providers,
            embeds_images=self._embedder.embeds_images,
            limits=limits_message(self._settings),
        )

    @property
    def _running(self) -> Batcher[SourceItem, Array, Array]:
        if self._batcher is None:
            raise starting(self)
        return self._batcher

    def _load(self) -> Embedder:
        settings = self._settings
        embedder = Embedder(Bundle.load(settings.bundle), settings.placement, settings.embed_images)
        embedder.warm_up()
        return embedder

    def _item(self, index: int, source: types_pb2.ImageSource) -> SourceItem:
        if source.WhichOneof("source") == "image" and not self._embedder.embeds_images:
            raise InvalidInput(
                "this embedder takes features, not images: classify the image and send its feature, "
                "or set GEOFIX_EMBED_IMAGES=true",
                Reason.IMAGE_FORMAT_UNSUPPORTED,
                {"index": str(index)},
            )
        return SourceItem(index, source)

    def _prepare(self, item: SourceItem) -> Array:
        return network_input(item, self._embedder.bundle.manifest, self._settings.image_limits)
