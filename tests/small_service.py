"""A service that is ready at once, for tests of what stands before every service: TLS, tokens."""

from __future__ import annotations

from typing import Any

import grpc

from geofix.server import Service
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc


class SmallService(Service, rpc.EmbedderServiceServicer):
    """An embedder that knows its dimension, and whose `Embed` has a defect."""

    full_name = "geofix.v1.EmbedderService"
    role = "embedder"

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_EmbedderServiceServicer_to_server(self, server)

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def GetModelInfo(
        self, request: pb.EmbedderServiceGetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedderServiceGetModelInfoResponse:
        return pb.EmbedderServiceGetModelInfoResponse(feature_dim=7)

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.EmbedResponse:
        raise ZeroDivisionError
