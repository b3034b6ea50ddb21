"""GeolocationService over gRPC: the cache in front of the request walk, batches, and what the deployment serves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from geofix.access.callers import CALLER, LOCATE
from geofix.aggregate import dbscan_labels
from geofix.bundle import Bundle
from geofix.decision import Strategy
from geofix.errors import (
    DeadlineExceeded,
    GeofixError,
    MismatchError,
    Overloaded,
    PermissionDenied,
    Reason,
    Unavailable,
)
from geofix.limits import check_batch, limits_message
from geofix.server import Service, starting
from geofix.telemetry.metrics import BREAKER_OPEN
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.wire import error_to_status
from geofix_gateway.answers import Answers, Question
from geofix_gateway.cache import AnswerCache
from geofix_gateway.downstream import GrpcDownstream
from geofix_gateway.handlers import add_handlers
from geofix_gateway.locate import Deadline, Locator
from geofix_gateway.quota import Quota
from geofix_gateway.responses import read_options, read_source
from geofix_gateway.screen import Screen
from geofix_gateway.settings import GatewaySettings

CHECK_TIMEOUT_S = 1.0
"""Time that a dependency has to say that it is ready."""


class GatewayService(Service, rpc.GeolocationServiceServicer):
    """Answers clients with one bundle."""

    full_name = "geofix.v1.GeolocationService"
    role = "gateway"
    needed_role = LOCATE

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._cache = AnswerCache(
            settings.redis_url, settings.cache_ttl_s, settings.cache_timeout_s, settings.redis_password_file
        )
        self._quota = Quota(
            settings.redis_url,
            settings.cache_timeout_s,
            settings.quota_per_minute,
            fail_open=settings.quota_fail_open,
            password_file=settings.redis_password_file,
        )
        denied = settings.denied_areas_file
        self._screen = Screen(denied) if denied is not None else None
        self._gallery_version = ""
        self._gallery_seen = float("-inf")
        self._gallery_lock = asyncio.Lock()
        self._bundle: Bundle
        self._downstream: GrpcDownstream | None = None
        self._locator: Locator
        self._answers: Answers

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        add_handlers(self, server)

    async def start(self) -> None:
        """Verify the bundle and open the channels."""
        self._bundle = await asyncio.to_thread(self._load)
        self._downstream = GrpcDownstream(self._settings, self._bundle)
        self._locator = Locator(self._bundle, self._downstream)
        self._answers = Answers(self._locator, self._cache, self._screen)
        self._cache.count_from_zero()
        BREAKER_OPEN.follow(lambda: self._cache.is_left_alone, "cache")

    async def check(self) -> None:
        """Ready when every service behind it is, over one model. Redis is not asked: without it answers are only slower."""
        await self._services.check(CHECK_TIMEOUT_S)
        await self._live_gallery(CHECK_TIMEOUT_S)

    def versions(self) -> tuple[str, str]:
        """The versions of the bundle and of the live gallery."""
        return self._bundle.version, self._gallery_version

    async def close(self) -> None:
        """Close cache and channels."""
        await self._cache.close()
        await self._quota.close()
        if self._downstream is not None:
            await self._downstream.close()

    async def Locate(self, request: pb.LocateRequest, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:  # type: ignore[override]
        """See the proto. The answer is serialised already (`handlers.py`)."""
        started, left = time.perf_counter(), self._deadline(context)
        await self._admit(1)
        options, source = read_options(request.options), read_source(request.source)
        question = await self._answers.question(source, options, await self._live_gallery(left()))
        return await self._answers.answer(question, left, started)

    async def BatchLocate(
        self, request: pb.BatchLocateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.BatchLocateResponse:
        """See the proto."""
        started, left = time.perf_counter(), self._deadline(context)
        check_batch(len(request.sources), self._settings.max_batch)
        await self._admit(len(request.sources))
        options = read_options(request.options)
        gallery_version = await self._live_gallery(left())
        results: list[pb.BatchLocateResult] = []
        positions: dict[str, list[int]] = {}
        questions: dict[str, Question] = {}
        for position, message in enumerate(request.sources):
            results.append(pb.BatchLocateResult())
            try:
                question = await self._answers.question(read_source(message), options, gallery_version)
            except GeofixError as error:
                results[position].error.CopyFrom(error_to_status(error))
                continue
            questions[question.key] = question
            positions.setdefault(question.key, []).append(position)  # the same image twice is one question
        at_a_time = asyncio.Semaphore(self._settings.batch_concurrency)

        async def answer(question: Question) -> None:
            async with at_a_time:
                result = await self._batch_result(question, left, started)
            for position in positions[question.key]:
                results[position].CopyFrom(result)

        await asyncio.gather(*map(answer, questions.values()))
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

    async def _admit(self, images: int) -> None:
        """Whether who calls may have so many images located now: also those whose answers are cached."""
        off = self._settings.off_file
        if off is not None and off.exists():
            raise PermissionDenied("the operator has switched answers off", Reason.SWITCHED_OFF)
        await self._quota.charge(CALLER.get(), images)

    @property
    def _services(self) -> GrpcDownstream:
        if self._downstream is None:
            raise starting(self)
        return self._downstream

    def _load(self) -> Bundle:
        bundle = Bundle.load(self._settings.bundle)
        _ = bundle.cells, bundle.calibration  # read now: a damaged table is a start-up error, not a request's
        dbscan_labels(bundle.cells.xyz[:1], 1.0, 1)  # imports scikit-learn, a second that no request should pay
        return bundle

    def _deadline(self, context: grpc.aio.ServicerContext[Any, Any]) -> Deadline:
        end = self._settings.deadline(context.time_remaining())
        return lambda: end - time.monotonic()

    async def _batch_result(self, question: Question, left: Deadline, started: float) -> pb.BatchLocateResult:
        try:
            response = pb.LocateResponse.FromString(await self._answers.answer(question, left, started))
        except GeofixError as error:
            return pb.BatchLocateResult(error=error_to_status(error))
        return pb.BatchLocateResult(response=response)

    async def _live_gallery(self, timeout_s: float) -> str:
        """The live gallery's version, looked up again when the last look is older than the poll pause."""
        if self._gallery_is_stale():
            async with self._gallery_lock:
                if self._gallery_is_stale():
                    await self._look_up_gallery(timeout_s)
        return self._gallery_version

    def _gallery_is_stale(self) -> bool:
        return time.monotonic() - self._gallery_seen > self._settings.gallery_poll_s

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
        self._locator.note_calibration(state.version, state.calibration)
        self._gallery_version = state.version
        self._gallery_seen = time.monotonic()
