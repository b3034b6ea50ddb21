"""The gateway over a real socket while what it depends on is gone, hangs, or belongs to another bundle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from backends import (
    HOST,
    MUNICH,
    SERVICES,
    SYDNEY,
    Backend,
    Held,
    HeldEmbedder,
    HeldRetrieval,
    first_answer,
    free_address,
    held_classifier,
    locate,
    locate_or_error,
    request_of,
    serving,
    stub,
    until,
)
from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.channel import open_channel
from geofix.errors import DeadlineExceeded, GeofixError, MismatchError, Overloaded, Reason, Unavailable
from geofix.gallery.loader import load_bundle_gallery
from geofix.geo import haversine_km
from geofix.v1 import classifier_service_pb2_grpc as classifier_rpc
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1.classifier_service_pb2 import ClassifyRequest
from geofix.v1.types_pb2 import ImageSource
from geofix_embedder.settings import EmbedderSettings
from geofix_gateway.service import GatewayService
from geofix_retrieval.settings import RetrievalSettings
from platforms import clean_environment
from running import refusal, running, state_of, until_state
from stores import Valkey, valkey

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAME = GatewayService.full_name


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the same name and another version."""
    return make_bundle(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def cache(backend: Backend, tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey that a test may do anything to."""
    with valkey(backend.bundle, tmp_path) as server:
        yield server


async def is_right(channel: grpc.aio.Channel) -> bool:
    """Whether a question about Sydney is answered rightly, from the cache or not; which is returned."""
    answer = await locate(channel, SYDNEY)
    assert float(haversine_km(answer.location.latitude, answer.location.longitude, -33.9, 151.2)) < 600
    assert len(answer.radii) == 2
    assert answer.neighbors_used > 0
    return answer.cached


async def error_of(channel: grpc.aio.Channel, **options: object) -> GeofixError:
    error = await locate_or_error(channel, MUNICH, bypass_cache=True, **options)
    assert isinstance(error, GeofixError)
    return error


async def test_a_cache_that_is_gone_at_the_start_is_used_once_it_is_there(backend: Backend, cache: Valkey) -> None:
    cache.stop()
    async with backend.gateway(redis_url=cache.url) as channel:
        assert not await is_right(channel)
        assert not await is_right(channel)
        cache.start()
        await until(lambda: is_right(channel))
        assert await state_of(channel, NAME) == SERVING


async def test_a_cache_that_goes_and_comes_back(backend: Backend, cache: Valkey) -> None:
    async with backend.gateway(redis_url=cache.url) as channel:
        assert not await is_right(channel)
        assert await is_right(channel)
        cache.stop()
        for _ in range(3):
            assert not await is_right(channel)
        assert await state_of(channel, NAME) == SERVING
        cache.start()
        await until(lambda: is_right(channel))


async def test_a_cache_that_hangs_costs_its_time_out_and_no_more(backend: Backend, cache: Valkey) -> None:
    async with backend.gateway(redis_url=cache.url, cache_timeout_s=0.2) as channel:
        await until(lambda: is_right(channel))
        cache.freeze()
        answer = await locate(channel, SYDNEY)
        assert not answer.cached
        assert 150 < answer.timing.cache_ms < 5000
        again = [await locate(channel, SYDNEY) for _ in range(5)]
        assert min(each.timing.cache_ms for each in again) < 100  # it is left alone for a while
        batch = pb.BatchLocateRequest(sources=[ImageSource(image=SYDNEY)] * 3)
        response = await stub(channel).BatchLocate(batch, timeout=30)
        assert [result.response.location for result in response.results] == [answer.location] * 3
        cache.thaw()
        await until(lambda: is_right(channel))


async def test_a_cache_that_never_accepts_a_connection_is_a_miss(backend: Backend, cache: Valkey) -> None:
    cache.freeze()  # the kernel accepts for it; the greeting is never answered
    async with backend.gateway(redis_url=cache.url, cache_timeout_s=0.2) as channel:
        assert not await is_right(channel)
        cache.thaw()
        await until(lambda: is_right(channel))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"$0\r\n\r\n",
        b"*1\r\n*1\r\n*1\r\n:1\r\n",
        b"-LOADING\r\n",
        b">1\r\n+x\r\n",
        b"\xff\x00\xff\x00\r\n",
        b"",
    ],
)
async def test_a_cache_that_talks_nonsense_is_a_miss(backend: Backend, reply: bytes) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                asked += 1
                writer.write(reply)
                await writer.drain()
                if not reply:
                    break
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with backend.gateway(redis_url=f"redis://{HOST}:{port}/0", cache_timeout_s=0.3) as channel:
            assert not await is_right(channel)
            assert not await is_right(channel)
    assert asked > 0


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_is_down_is_named_until_it_is_back(backend: Backend, name: str, tmp_path: Path) -> None:
    address = free_address()
    milvus = Path(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"))
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(serving(name, backend.bundle, address, milvus))
        async with backend.gateway(ready=True, **{f"{name}_addr": address}) as channel:
            cached = await locate(channel, MUNICH)
            await first.aclose()
            error = await error_of(channel)
            assert isinstance(error, Unavailable)
            assert error.reason is Reason.SERVICE_UNAVAILABLE
            assert f"{name} at {address}" in error.message
            assert f"{name} at {address}" in error.metadata["service"]
            await until_state(channel, NAME, NOT_SERVING)
            assert await state_of(channel, "") == SERVING
            assert (await locate(channel, MUNICH)).location == cached.location
            error = await error_of(channel)
            assert isinstance(error, Unavailable)
            batch = pb.BatchLocateRequest(sources=[ImageSource(image=SYDNEY), ImageSource(image=MUNICH)])
            results = (await stub(channel).BatchLocate(batch, timeout=30)).results
            assert results[0].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert results[1].response.cached
            async with serving(name, backend.bundle, address, milvus):
                await until_state(channel, NAME, SERVING)
                await is_right(channel)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_gateway_is_not_ready_before_the_services_are(backend: Backend, name: str, tmp_path: Path) -> None:
    address = free_address()
    milvus = Path(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"))
    async with backend.gateway(ready=False, **{f"{name}_addr": address}) as channel:

        async def is_named() -> bool:
            error = await error_of(channel)
            assert isinstance(error, Unavailable)
            return f"{name} at {address}" in error.message and f"{name} at {address}" in error.metadata["service"]

        await until(is_named)
        assert await state_of(channel, NAME) == NOT_SERVING
        assert await state_of(channel, "") == SERVING
        async with serving(name, backend.bundle, address, milvus):
            await until_state(channel, NAME, SERVING)
            await is_right(channel)


async def test_without_retrieval_what_needs_no_search_is_answered(backend: Backend, tmp_path: Path) -> None:
    address = free_address()
    milvus = Path(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"))
    async with contextlib.AsyncExitStack() as retrieval:
        await retrieval.enter_async_context(serving("retrieval", backend.bundle, address, milvus))
        async with backend.gateway(retrieval_addr=address) as channel:
            await retrieval.aclose()
            await until_state(channel, NAME, NOT_SERVING)
            answer = await locate(channel, MUNICH, strategy=pb.STRATEGY_CLASSIFICATION, bypass_cache=True)
            assert answer.method == pb.METHOD_CELL_MEAN


async def test_retrieval_that_hangs_keeps_no_one_from_a_cached_answer(backend: Backend, tmp_path: Path) -> None:
    milvus = Path(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"))
    settings = RetrievalSettings(listen=free_address(), bundle=backend.bundle.directory, milvus_uri=str(milvus))
    held = Held()
    held.gate.set()
    async with (
        running(HeldRetrieval(settings, held), settings),
        backend.gateway(retrieval_addr=settings.listen) as channel,
    ):
        first = await locate(channel, MUNICH)
        held.gate.clear()
        await held.until_inside(1)  # the gateway's next look at the live version, which is not answered
        answer = await locate(channel, MUNICH)
        assert answer.cached
        assert answer.location == first.location
        held.failure = Overloaded("busy")
        held.gate.set()
        looks = held.entered

        async def has_looked_again() -> bool:
            assert (await locate(channel, MUNICH)).cached
            return held.entered > looks + 1

        await until(has_looked_again)
        held.failure = None
        await is_right(channel)


async def test_the_servers_deadline_ends_a_call_that_brings_none(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address, default_deadline_s=0.5) as channel,
    ):
        error = await refusal(stub(channel).Locate(request_of(MUNICH)))
        assert isinstance(error, DeadlineExceeded)
        assert error.reason is Reason.DEADLINE_EXCEEDED
        await held.until_inside(0)
        held.gate.set()
        await is_right(channel)


async def test_a_long_deadline_is_cut(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, _),
        backend.gateway(classifier_addr=address, max_deadline_s=0.5) as channel,
    ):
        started = time.monotonic()
        error = await refusal(stub(channel).Locate(request_of(MUNICH), timeout=120))
        assert isinstance(error, DeadlineExceeded)
        assert time.monotonic() - started < 60


@pytest.mark.parametrize("seconds", [0.0005, 0.01, 0.1])
async def test_a_tiny_deadline_never_hangs(backend: Backend, seconds: float) -> None:
    async with held_classifier(backend.bundle) as (address, held), backend.gateway(classifier_addr=address) as channel:
        calls = [stub(channel).Locate(request_of(MUNICH), timeout=seconds) for _ in range(5)]
        async with asyncio.timeout(30):
            errors = [await refusal(call) for call in calls]
        assert {error.reason for error in errors} == {Reason.DEADLINE_EXCEEDED}
        await held.until_inside(0)
        held.gate.set()
        await is_right(channel)


async def test_a_client_that_goes_away_frees_the_services(backend: Backend) -> None:
    async with held_classifier(backend.bundle) as (address, held), backend.gateway(classifier_addr=address) as channel:
        calls = [stub(channel).Locate(request_of(MUNICH, bypass_cache=True), timeout=60) for _ in range(3)]
        batch = pb.BatchLocateRequest(
            sources=[ImageSource(image=MUNICH)] * 2, options=pb.LocateOptions(bypass_cache=True)
        )
        batch_call = stub(channel).BatchLocate(batch, timeout=60)
        await held.until_inside(4)  # the same image twice in a batch is one question
        for call in calls:
            call.cancel()
        batch_call.cancel()
        await held.until_inside(0)
        held.gate.set()
        await is_right(channel)


@pytest.mark.parametrize(
    ("limits", "timeout"), [({"default_deadline_s": 0.3}, None), ({"max_deadline_s": 0.3}, 60.0), ({}, 0.3)]
)
async def test_a_service_gives_up_a_call_when_its_time_is_over(
    backend: Backend, limits: dict[str, float], timeout: float | None
) -> None:
    async with (
        held_classifier(backend.bundle, **limits) as (address, held),
        open_channel(address) as channel,
    ):
        call = classifier_rpc.ClassifierServiceStub(channel).Classify(ClassifyRequest(), timeout=timeout)
        error = await refusal(call)
        assert isinstance(error, DeadlineExceeded)
        if limits:  # else the client knew first
            assert error.message == "/geofix.v1.ClassifierService/Classify did not finish within its deadline"
        await held.until_inside(0)


async def test_a_later_stage_gets_only_the_time_that_is_left(backend: Backend) -> None:
    settings = EmbedderSettings(listen=free_address(), bundle=backend.bundle.directory)
    held = Held()
    async with (
        running(HeldEmbedder(settings, held), settings),
        backend.gateway(embedder_addr=settings.listen) as channel,
    ):
        error = await refusal(stub(channel).Locate(request_of(MUNICH, bypass_cache=True), timeout=1.5))
        assert isinstance(error, DeadlineExceeded)
        (remaining,) = held.remaining
        assert remaining is not None
        assert 0 < remaining < 3  # on the wire deadlines are rounded up; without one it would be the default of 10
        await held.until_inside(0)
        held.gate.set()
        await is_right(channel)


@pytest.mark.parametrize("name", ["classifier", "embedder"])
async def test_a_service_of_another_bundle_is_refused_with_both_named(
    backend: Backend, other: Bundle, name: str
) -> None:
    address = free_address()
    async with (
        serving(name, other, address, ""),
        backend.gateway(ready=False, **{f"{name}_addr": address}) as channel,
    ):
        error = await first_answer(channel)
        assert isinstance(error, MismatchError)
        assert error.reason is Reason.MODEL_MISMATCH
        for text in (backend.bundle.version, other.version, f"{name} at {address}"):
            assert text in error.message
        assert error.metadata["service_model_version"] == other.version
        assert error.metadata["model_version"] == backend.bundle.version
        assert await state_of(channel, NAME) == NOT_SERVING


@pytest.mark.parametrize("name", ["classifier", "embedder"])
async def test_a_service_that_changes_to_another_bundle_is_refused(backend: Backend, other: Bundle, name: str) -> None:
    address = free_address()
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(serving(name, backend.bundle, address, ""))
        async with backend.gateway(ready=True, **{f"{name}_addr": address}) as channel:
            assert not await is_right(channel)
            await first.aclose()
            async with serving(name, other, address, ""):
                error = await first_answer(channel)
                assert isinstance(error, MismatchError)
                assert error.reason is Reason.MODEL_MISMATCH
                assert f"{name} at {address} serves {other.version}" in error.message
                assert await is_right(channel)  # from the cache
                await until_state(channel, NAME, NOT_SERVING)
            async with serving(name, backend.bundle, address, ""):
                await until_state(channel, NAME, SERVING)


async def test_a_gallery_of_another_bundle_is_refused_with_both_named(
    backend: Backend, other: Bundle, tmp_path: Path
) -> None:
    address = free_address()
    await asyncio.to_thread(load_bundle_gallery, other, str(tmp_path / "milvus.db"))
    async with (
        serving("retrieval", other, address, tmp_path / "milvus.db"),
        backend.gateway(ready=False, retrieval_addr=address) as channel,
    ):
        error = await first_answer(channel)
        assert isinstance(error, MismatchError)
        assert error.reason is Reason.GALLERY_MISMATCH
        assert error.metadata == {"model_version": backend.bundle.version, "gallery_model_version": other.version}
        assert backend.bundle.version in error.message
        assert other.version in error.message
        assert await state_of(channel, NAME) == NOT_SERVING


@contextlib.asynccontextmanager
async def gateway_process(
    backend: Backend, log: Path, **more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, grpc.aio.Channel]]:
    """`python -m geofix_gateway`, ready, and a channel to it."""
    settings = {f"{name}_addr": address for name, address in backend.addresses.items()}
    settings |= {"listen": free_address(), "bundle": str(backend.bundle.directory), "redis_url": backend.valkey.url}
    environment = {f"GEOFIX_{name.upper()}": value for name, value in (settings | more).items()}
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "geofix_gateway", env=clean_environment() | environment, stdout=out, stderr=out
        )
    channel = open_channel(settings["listen"])
    try:

        async def is_ready() -> bool:
            assert process.returncode is None, log.read_text()
            try:
                return bool(await state_of(channel, NAME) == SERVING)
            except grpc.RpcError:
                return False

        await until(is_ready, 60)
        yield process, channel
    finally:
        await channel.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_calls_in_flight_finish_and_takes_no_new_ones(
    backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        gateway_process(backend, tmp_path / "log", classifier_addr=address, drain_s="60", drain_delay_s="0.2") as (
            process,
            channel,
        ),
    ):
        in_flight = asyncio.ensure_future(locate(channel, SYDNEY, bypass_cache=True))
        await held.until_inside(1)
        os.kill(process.pid, number)

        async def is_closed() -> bool:
            return isinstance(await locate_or_error(channel, SYDNEY, max_cells=-1), Unavailable)

        await until(is_closed)
        assert not in_flight.done()
        assert process.returncode is None
        held.gate.set()
        answer = await in_flight
        assert float(haversine_km(answer.location.latitude, answer.location.longitude, -33.9, 151.2)) < 600
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_drain_does_not_wait_forever(backend: Backend, tmp_path: Path) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        gateway_process(backend, tmp_path / "log", classifier_addr=address, drain_s="0.3", drain_delay_s="0") as (
            process,
            channel,
        ),
    ):
        in_flight = asyncio.ensure_future(locate_or_error(channel, SYDNEY, bypass_cache=True))
        await held.until_inside(1)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert isinstance(await in_flight, GeofixError)
        assert "Traceback" not in (tmp_path / "log").read_text()
