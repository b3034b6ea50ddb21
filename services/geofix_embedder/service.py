"""EmbedderService over gRPC: translates, and leaves the work to `embed`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.errors import GeofixError, InvalidInput, Reason
from geofix.limits import check_batch, limits_message
from geofix.server import Service
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from geofix.v1 import types_pb2
from geofix.vectors import pack_vector, unpack_vector
from geofix.workers import WorkQueue
from geofix_embedder.embed import Embedder
from geofix_embedder.settings import EmbedderSettings


class EmbedderService(Service, rpc.EmbedderServiceServicer):
    """Serves one bundle's retrieval module."""

    full_name = "geofix.v1.EmbedderService"

    def __init__(self, settings: EmbedderSettings) -> None:
        self._settings = settings
        # One thread owns the networks: two passes at once would only share the same cores.
        self._inference = WorkQueue("inference", 1, settings.max_queue)
        self._embedder: Embedder

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_EmbedderServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Verify the bundle, load the network and warm it up."""
        self._embedder = await asyncio.to_thread(self._load)

    async def check(self) -> None:
        """The network is in memory: nothing can take it away."""

    async def close(self) -> None:
        """End the thread."""
        self._inference.close()

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.EmbedResponse:
        """See the proto."""
        check_batch(len(request.sources), self._settings.max_batch)
        features = np.stack([await self._feature(i, source) for i, source in enumerate(request.sources)])
        started = time.perf_counter()
        embeddings = await self._inference.run(self._embedder.embed, features)
        return pb.EmbedResponse(
            embeddings=[pack_vector(row) for row in embeddings],
            model_version=self._embedder.bundle.version,
            inference_ms=(time.perf_counter() - started) * 1000,
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

    def _load(self) -> Embedder:
        settings = self._settings
        embedder = Embedder(
            Bundle.load(settings.bundle), settings.provider_list, settings.threads, settings.embed_images
        )
        embedder.warm_up()
        return embedder

    async def _feature(self, index: int, source: types_pb2.ImageSource) -> NDArray[np.float32]:
        try:
            match source.WhichOneof("source"):
                case "feature":
                    dim = self._embedder.bundle.manifest.feature_dim
                    return unpack_vector(source.feature, dim, Reason.FEATURE_INVALID)
                case "image" if self._embedder.embeds_images:
                    limits = self._settings.image_limits
                    return await self._inference.run(self._embedder.feature, source.image, limits)
                case "image":
                    raise InvalidInput(
                        "this embedder takes features, not images: classify the image and send its feature, "
                        "or set GEOFIX_EMBED_IMAGES=true",
                        Reason.IMAGE_FORMAT_UNSUPPORTED,
                    )
                case _:
                    raise InvalidInput("neither an image nor a feature was sent", Reason.IMAGE_MISSING)
        except GeofixError as error:
            error.metadata["index"] = str(index)
            raise
