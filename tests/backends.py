"""The services behind a gateway, on real sockets in this process, over a real Milvus Lite and a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from bundle_factory import RULE as TINY_RULE
from bundle_factory import image_of, make_bundle
from geofix.bundle import Bundle
from geofix.errors import GeofixError, Unavailable
from geofix.gallery.loader import load_bundle_gallery
from geofix.local import LocalEngine
from geofix.platform.ports import free_ports
from geofix.server import Service
from geofix.settings import ServiceSettings
from geofix.v1 import classifier_service_pb2, embedder_service_pb2, retrieval_service_pb2
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix.wire import error_from_rpc
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from geofix_embedder.service import EmbedderService
from geofix_embedder.settings import EmbedderSettings
from geofix_gateway.service import GatewayService
from geofix_gateway.settings import GatewaySettings
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings
from running import LISTEN, running
from stores import Valkey, valkey

HOST = "127.0.0.1"
SERVICES = ("classifier", "embedder", "retrieval")
MUNICH, SYDNEY = image_of(48.1, 11.6), image_of(-33.9, 151.2)
GALLERY_ROWS = 4000
"""So many that the next image is some 100 km away."""
RULE = TINY_RULE.model_copy(update={"eps_km": 250.0, "min_samples": 2})
"""With it, the neighbours of an image make several clusters, and some are noise."""


@dataclass(frozen=True)
class Backend:
    """What a gateway needs: the addresses of three services by name, and a cache."""

    bundle: Bundle
    engine: LocalEngine
    addresses: Mapping[str, str]
    valkey: Valkey
    spare_milvus: Path
    """A second copy of the loaded Milvus Lite directory, which nothing has opened."""

    def settings(self, **more: Any) -> GatewaySettings:
        """A gateway's settings; `more` wins."""
        given: dict[str, Any] = {f"{name}_addr": address for name, address in self.addresses.items()}
        given |= {"listen": LISTEN, "bundle": self.bundle.directory, "redis_url": self.valkey.url}
        # A busy machine is no reason for a miss, but where a test says so.
        given |= {"cache_timeout_s": 5.0, "gallery_poll_s": 0.1}
        return GatewaySettings(**given | more)

    @contextlib.asynccontextmanager
    async def gateway(self, *, ready: bool = True, **more: Any) -> AsyncIterator[grpc.aio.Channel]:
        """A gateway of its own with these settings; a channel to it."""
        settings = self.settings(**more)
        async with running(GatewayService(settings), settings, ready=ready) as channel:
            yield channel


@contextlib.asynccontextmanager
async def running_backend(directory: Path, gallery_rows: int = GALLERY_ROWS) -> AsyncIterator[Backend]:
    """Three services over one tiny bundle, a Milvus Lite directory and a Valkey."""
    bundle = make_bundle(directory / "bundle", gallery_rows=gallery_rows, rule=RULE)
    load_bundle_gallery(bundle, str(directory / "milvus.db"))
    shutil.copytree(directory / "milvus.db", directory / "spare.db")
    addresses = {name: f"{HOST}:{port}" for name, port in zip(SERVICES, free_ports(3), strict=True)}
    async with AsyncExitStack() as stack:
        # The tests wait for readiness to change: they need not wait as long as an operator.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("geofix.server.HEALTH_POLL_S", 0.2)
        cache = stack.enter_context(valkey(bundle, directory))
        for name, address in addresses.items():
            await stack.enter_async_context(serving(name, bundle, address, directory / "milvus.db"))
        yield Backend(bundle, LocalEngine(bundle), addresses, cache, directory / "spare.db")


def serving(
    name: str, bundle: Bundle, address: str, milvus: Path | str
) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    """One of the three services, ready, on an address."""
    settings: ServiceSettings
    service: Service
    match name:
        case "classifier":
            settings = ClassifierSettings(listen=address, bundle=bundle.directory)
            service = ClassifierService(settings)
        case "embedder":
            settings = EmbedderSettings(listen=address, bundle=bundle.directory)
            service = EmbedderService(settings)
        case _:
            settings = RetrievalSettings(listen=address, bundle=bundle.directory, milvus_uri=str(milvus))
            service = RetrievalService(settings)
    return running(service, settings)


class Held:
    """Holds calls until the gate is opened; then they go on or, where a failure is set, fail with it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside = 0
        self.entered = 0
        self.remaining: list[float | None] = []
        """Seconds that each call was given."""
        self.failure: GeofixError | None = None

    @contextlib.asynccontextmanager
    async def hold(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        self.inside += 1
        self.entered += 1
        self.remaining.append(context.time_remaining())
        try:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            yield
        finally:
            self.inside -= 1

    async def until_inside(self, count: int, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while self.inside != count:
                await asyncio.sleep(0.01)


class HeldClassifier(ClassifierService):
    """A classifier whose answers wait for a gate."""

    def __init__(self, settings: ClassifierSettings, held: Held) -> None:
        super().__init__(settings)
        self._held = held

    async def Classify(
        self, request: classifier_service_pb2.ClassifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> classifier_service_pb2.ClassifyResponse:
        async with self._held.hold(context):
            return await super().Classify(request, context)


class HeldEmbedder(EmbedderService):
    """An embedder whose answers wait for a gate."""

    def __init__(self, settings: EmbedderSettings, held: Held) -> None:
        super().__init__(settings)
        self._held = held

    async def Embed(
        self, request: embedder_service_pb2.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> embedder_service_pb2.EmbedResponse:
        async with self._held.hold(context):
            return await super().Embed(request, context)


class HeldRetrieval(RetrievalService):
    """A retrieval service that says which gallery is live when its gate is open."""

    def __init__(self, settings: RetrievalSettings, held: Held) -> None:
        super().__init__(settings)
        self._held = held

    async def GetGalleryInfo(
        self, request: retrieval_service_pb2.GetGalleryInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> retrieval_service_pb2.GetGalleryInfoResponse:
        async with self._held.hold(context):
            return await super().GetGalleryInfo(request, context)


@contextlib.asynccontextmanager
async def held_classifier(bundle: Bundle, **more: Any) -> AsyncIterator[tuple[str, Held]]:
    """A held classifier on an address of its own."""
    settings = ClassifierSettings(listen=f"{HOST}:{free_ports(1)[0]}", bundle=bundle.directory, **more)
    held = Held()
    async with running(HeldClassifier(settings, held), settings):
        try:
            yield settings.listen, held
        finally:
            held.gate.set()


def request_of(source: bytes | ImageSource, options: pb.LocateOptions | None = None, **more: Any) -> pb.LocateRequest:
    """A request for an image's bytes or a source, with options or their fields."""
    item = ImageSource(image=source) if isinstance(source, bytes) else source
    return pb.LocateRequest(source=item, options=options or pb.LocateOptions(**more))


async def locate(channel: grpc.aio.Channel, source: bytes | ImageSource, **options: Any) -> pb.LocateResponse:
    """The answer."""
    response = await rpc.GeolocationServiceStub(channel).Locate(request_of(source, **options), timeout=30)
    assert isinstance(response, pb.LocateResponse)
    return response


async def locate_or_error(
    channel: grpc.aio.Channel, source: bytes | ImageSource, **options: Any
) -> pb.LocateResponse | GeofixError:
    """The answer, or the error in its place."""
    try:
        return await locate(channel, source, **options)
    except grpc.RpcError as error:
        return error_from_rpc(error, "the gateway")


def free_address() -> str:
    """An address that nobody listens on."""
    return f"{HOST}:{free_ports(1)[0]}"


def stub(channel: grpc.aio.Channel) -> rpc.GeolocationServiceAsyncStub:
    """The gateway's methods."""
    return rpc.GeolocationServiceStub(channel)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.05)


async def first_answer(channel: grpc.aio.Channel) -> pb.LocateResponse | GeofixError:
    """The first answer that is not `starting` or `not ready`."""
    end = time.monotonic() + 30
    answer = await locate_or_error(channel, MUNICH, bypass_cache=True)
    while isinstance(answer, Unavailable):
        assert time.monotonic() < end, answer.message
        await asyncio.sleep(0.05)
        answer = await locate_or_error(channel, MUNICH, bypass_cache=True)
    return answer
