"""GeolocationService over gRPC: the cache in front of the request walk, batches, and what the deployment serves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from geofix.aggregate import dbscan_labels
from geofix.bundle import Bundle
from geofix.decision import Strategy
from geofix.errors import DeadlineExceeded, GeofixError, MismatchError, Overloaded, Reason, Unavailable
from geofix.limits import check_batch, limits_message
from geofix.server import Service
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1 import types_pb2
from geofix.wire import error_to_status
from geofix_gateway.cache import AnswerCache, cache_key
from geofix_gateway.downstream import GrpcDownstream
from geofix_gateway.locate import Deadline, Locator, Options, Source
from geofix_gateway.responses import read_cached, read_options, read_source, write_answer
from geofix_gateway.settings import GatewaySettings

CHECK_TIMEOUT_S = 1.0
"""Time that a dependency has to say that it is ready."""


class GatewayService(Service, rpc.GeolocationServiceServicer):
    """Answers clients with one bundle."""

    full_name = "geofix.v1.GeolocationService"
    role = "gateway"

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._cache = AnswerCache(settings.redis_url, settings.cache_ttl_s, settings.cache_timeout_s)
        self._gallery_version = ""
        self._gallery_seen = float("-inf")
        self._gallery_lock = asyncio.Lock()
        self._bundle: Bundle
        self._downstream: GrpcDownstream | None = None
        self._locator: Locator

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_GeolocationServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Verify the bundle and open the channels."""
        self._bundle = await asyncio.to_thread(self._load)
        self._downstream = GrpcDownstream(self._settings, self._bundle)
        self._locator = Locator(self._bundle, self._downstream)

    async def check(self) -> None:
        """Ready when every service behind it is, over one model. Redis is not asked: without it answers are only slower."""
        await self._services.check(CHECK_TIMEOUT_S)
        await self._live_gallery(CHECK_TIMEOUT_S)

    async def close(self) -> None:
        """Close cache and channels."""
        await self._cache.close()
        if self._downstream is not None:
            await self._downstream.close()

    async def Locate(self, request: pb.LocateRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.LocateResponse:
        """See the proto."""
        left = self._deadline(context)
        options, source = read_options(request.options), read_source(request.source)
        return await self._answer(source, options, await self._live_gallery(left()), left)

    async def BatchLocate(
        self, request: pb.BatchLocateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchLocateResponse:
        """See the proto."""
        check_batch(len(request.sources), self._settings.max_batch)
        left = self._deadline(context)
        options = read_options(request.options)
        gallery_version = await self._live_gallery(left())
        results = await asyncio.gather(
            *(self._batch_item(source, options, gallery_version, left) for source in request.sources)
        )
        return pb.BatchLocateResponse(results=results)

    async def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetServiceInfoResponse:
        """See the proto."""
        gallery_version = await self._live_gallery(CHECK_TIMEOUT_S)
        calibrated = self._locator.is_calibrated(Strategy.POSTERIOR, gallery_version)
        return pb.GetServiceInfoResponse(
            model_version=self._bundle.version,
            gallery_version=gallery_version,
            feature_dim=self._bundle.manifest.feature_dim,
            calibration_status=(pb.CALIBRATION_STATUS_CALIBRATED if calibrated else pb.CALIBRATION_STATUS_UNCALIBRATED),
            limits=limits_message(self._settings),
        )

    @property
    def _services(self) -> GrpcDownstream:
        if self._downstream is None:
            raise Unavailable(f"{self.full_name} is starting", metadata={"service": self.full_name})
        return self._downstream

    def _load(self) -> Bundle:
        bundle = Bundle.load(self._settings.bundle)
        _ = bundle.cells, bundle.calibration  # read now: a damaged table is a start-up error, not a request's
        dbscan_labels(bundle.cells.xyz[:1], 1.0, 1)  # imports scikit-learn, a second that no request should pay
        return bundle

    def _deadline(self, context: grpc.aio.ServicerContext[Any, Any]) -> Deadline:
        given = context.time_remaining()
        seconds = self._settings.default_deadline_s if given is None else min(given, self._settings.max_deadline_s)
        end = time.monotonic() + seconds
        return lambda: end - time.monotonic()

    async def _batch_item(
        self, source: types_pb2.ImageSource, options: Options, gallery_version: str, left: Deadline
    ) -> pb.BatchLocateResult:
        try:
            return pb.BatchLocateResult(
                response=await self._answer(read_source(source), options, gallery_version, left)
            )
        except GeofixError as error:
            return pb.BatchLocateResult(error=error_to_status(error))

    async def _answer(
        self, source: Source, options: Options, gallery_version: str, left: Deadline
    ) -> pb.LocateResponse:
        started = time.perf_counter()
        key = cache_key(
            b"image" if source.image is not None else b"feature",
            source.image or source.feature or b"",
            repr(options).encode(),
            self._bundle.version.encode(),  # covers preprocessing, calibration and decision rule: it hashes the whole bundle
            gallery_version.encode(),
        )
        response = None if options.bypass_cache else read_cached(await self._cache.get(key))
        cache_ms = (time.perf_counter() - started) * 1000
        if response is None:
            answer = await self._locator.locate(source, options, gallery_version, left)
            response = write_answer(answer, options, self._bundle)
            if not options.bypass_cache and not response.degraded:
                await self._cache.put(key, response.SerializeToString())
        response.timing.cache_ms = cache_ms
        response.timing.total_ms = (time.perf_counter() - started) * 1000
        return response

    async def _live_gallery(self, timeout_s: float) -> str:
        """The live gallery's version, looked up again when the last look is older than the poll pause."""
        async with self._gallery_lock:
            if time.monotonic() - self._gallery_seen > self._settings.gallery_poll_s:
                await self._look_up_gallery(timeout_s)
        return self._gallery_version

    async def _look_up_gallery(self, timeout_s: float) -> None:
        try:
            state = await self._services.gallery(min(timeout_s, CHECK_TIMEOUT_S))
        except (Unavailable, DeadlineExceeded, Overloaded):
            if not self._gallery_version:
                raise
            # Retrieval is away, hangs or is busy: cached answers of the last version stay good, and a search will say so itself.
            self._gallery_seen = time.monotonic()
            return
        if state.model_version != self._bundle.version:
            raise MismatchError(
                f"the gallery {state.version} was built with {state.model_version}, this gateway serves "
                f"{self._bundle.version}: load this bundle's gallery, or give the gateway the other bundle",
                Reason.GALLERY_MISMATCH,
                {"model_version": self._bundle.version, "gallery_model_version": state.model_version},
            )
        self._gallery_version = state.version
        self._gallery_seen = time.monotonic()
