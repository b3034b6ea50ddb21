"""The gateway over a real socket while nothing can be searched: what it answers to clients that allow a lesser answer."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis

from backends import HOST, Backend, Held, locate, locate_or_error, request_of, serving
from bundle_factory import image_of
from geofix.errors import Unavailable
from geofix.geo import haversine_km, xyz_to_latlon
from geofix.platform.ports import free_ports
from geofix.v1 import error_reason_pb2, retrieval_service_pb2
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix_gateway.downstream import FAILURES
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings
from running import running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH, SYDNEY = image_of(48.1, 11.6), image_of(-33.9, 151.2)


@pytest.mark.parametrize("name", ["retrieval", "embedder"])
async def test_without_a_search_the_answer_is_the_cells_mean_and_says_why(
    backend: Backend, tmp_path: Path, name: str
) -> None:
    address = f"{HOST}:{free_ports(1)[0]}"
    milvus = Path(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"))
    heads = backend.engine.heads(backend.engine.feature(MUNICH)[None])[0]
    async with contextlib.AsyncExitStack() as service:
        await service.enter_async_context(serving(name, backend.bundle, address, milvus))
        async with backend.gateway(ready=True, **{f"{name}_addr": address}) as channel:
            whole = await locate(channel, SYDNEY, allow_degraded=True)
            assert not whole.degraded
            assert whole.degraded_reason == error_reason_pb2.ERROR_REASON_UNSPECIFIED
            assert whole.degraded_message == ""
            await service.aclose()
            for _ in range(FAILURES):  # until the gateway leaves the service alone
                await locate(channel, MUNICH, allow_degraded=True)
            assert isinstance(
                await locate_or_error(channel, MUNICH), Unavailable
            )  # who does not allow it gets an error

            for _ in range(2):
                answer = await locate(channel, MUNICH, allow_degraded=True)
                assert not answer.cached
                assert answer.degraded
                assert answer.degraded_reason == error_reason_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
                assert f"{name} at {address}" in answer.degraded_message
                assert answer.method == pb.METHOD_CELL_MEAN
                mean = xyz_to_latlon(heads.cells.xyz[0])
                assert float(haversine_km(answer.location.latitude, answer.location.longitude, *mean)) < 0.1
                assert answer.localizable
                assert answer.calibration_status == pb.CALIBRATION_STATUS_UNCALIBRATED
                assert not answer.radii
                assert not answer.neighbors
                assert answer.gallery_version == ""
            assert (await locate(channel, SYDNEY, allow_degraded=True)).cached  # what was searched before is still good
            with redis.Redis.from_url(backend.valkey.url) as connection:
                assert connection.dbsize() == 1

            async with serving(name, backend.bundle, address, milvus):
                answer = await locate(channel, MUNICH, allow_degraded=True)
                while answer.degraded:
                    answer = await locate(channel, MUNICH, allow_degraded=True)
                assert not answer.cached
                assert len(answer.radii) == 2
                assert (await locate(channel, MUNICH, allow_degraded=True)).cached


async def test_retrieval_that_hangs_is_waited_for_by_the_first_alone(backend: Backend) -> None:
    settings = RetrievalSettings(
        listen=f"{HOST}:{free_ports(1)[0]}", bundle=backend.bundle.directory, milvus_uri=str(backend.spare_milvus)
    )
    held = Held()
    held.gate.set()
    async with (
        running(SlowSearch(settings, held), settings),
        backend.gateway(retrieval_addr=settings.listen) as channel,
    ):
        stub = rpc.GeolocationServiceStub(channel)
        request = request_of(MUNICH, allow_degraded=True, bypass_cache=True)
        assert not (await stub.Locate(request, timeout=30)).degraded
        held.gate.clear()
        first = await asyncio.gather(*(stub.Locate(request, timeout=1.5) for _ in range(FAILURES)))
        assert {answer.degraded_reason for answer in first} == {error_reason_pb2.ERROR_REASON_DEADLINE_EXCEEDED}
        assert min(answer.timing.total_ms for answer in first) > 1000  # all of their time but the margin
        asked = held.entered
        later = [await stub.Locate(request, timeout=1.5) for _ in range(10)]
        assert {answer.degraded for answer in later} == {True}
        quick = [answer for answer in later if answer.timing.total_ms < 500]
        assert len(quick) >= 5
        assert held.entered - asked == len(later) - len(quick)  # the probes
        assert f"retrieval at {settings.listen} has failed" in quick[0].degraded_message
        held.gate.set()
        async with asyncio.timeout(30):
            while (await stub.Locate(request, timeout=5)).degraded:
                await asyncio.sleep(0.05)


class SlowSearch(RetrievalService):
    """A retrieval service whose searches wait for a gate."""

    def __init__(self, settings: RetrievalSettings, held: Held) -> None:
        super().__init__(settings)
        self._held = held

    async def Search(
        self, request: retrieval_service_pb2.SearchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> retrieval_service_pb2.SearchResponse:
        async with self._held.hold(context):
            return await super().Search(request, context)
