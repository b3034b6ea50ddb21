"""The gateway over a real socket when many ask the same: the backbone works once, and nobody takes the answer from another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import pytest
import redis
import zstandard

from backends import Backend, held_classifier, locate, request_of
from bundle_factory import image_of
from geofix.errors import DeadlineExceeded, Unavailable
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from running import refusal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH, SYDNEY, QUITO = image_of(48.1, 11.6), image_of(-33.9, 151.2), image_of(-0.2, -78.5)
IDENTICAL = 16


def ask(
    channel: grpc.aio.Channel, image: bytes, timeout: float = 30, **options: Any
) -> grpc.aio.UnaryUnaryCall[pb.LocateRequest, pb.LocateResponse]:
    return rpc.GeolocationServiceStub(channel).Locate(request_of(image, **options), timeout=timeout)


@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1/0"], ids=["with a cache", "without"])
async def test_identical_requests_at_once_are_one_pass_of_the_backbone(backend: Backend, redis_url: str | None) -> None:
    more = {"redis_url": redis_url} if redis_url else {}
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(ready=True, classifier_addr=address, **more) as channel,
    ):
        calls = [ask(channel, MUNICH) for _ in range(IDENTICAL)]
        other = ask(channel, MUNICH, max_cells=1)
        await held.until_inside(2)
        await asyncio.sleep(0.2)  # the stragglers have come, too
        held.gate.set()
        answers = await asyncio.gather(*calls)
        await other
        assert held.entered == 2  # one for each question
        assert {answer.location.latitude for answer in answers} == {answers[0].location.latitude}
        assert not any(answer.cached for answer in answers)
        assert (await ask(channel, MUNICH)).cached is not bool(redis_url)


async def test_bypassing_the_cache_is_computed_for_each(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address) as channel,
    ):
        calls = [ask(channel, MUNICH, bypass_cache=True) for _ in range(3)]
        await held.until_inside(3)
        held.gate.set()
        await asyncio.gather(*calls)


async def test_a_client_that_goes_away_takes_the_answer_from_nobody(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address) as channel,
    ):
        leader = ask(channel, MUNICH)
        await held.until_inside(1)
        others = [ask(channel, MUNICH) for _ in range(2)]
        await asyncio.sleep(0.2)
        leader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leader
        others[0].cancel()
        await asyncio.sleep(0.2)
        assert held.inside == 1
        held.gate.set()
        assert (await others[1]).neighbors_used > 0
        assert held.entered == 1


async def test_the_first_ones_deadline_is_not_the_others(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address) as channel,
    ):
        hurried = ask(channel, MUNICH, timeout=1)
        await held.until_inside(1)
        patient = ask(channel, MUNICH, timeout=30)
        error = await refusal(hurried)
        assert isinstance(error, DeadlineExceeded)
        await held.until_inside(1)  # asked again, in the time of the one who still waits
        held.gate.set()
        assert (await patient).neighbors_used > 0
        assert held.entered == 2
        first, second = held.remaining
        assert first is not None
        assert second is not None
        assert first < 2 < 20 < second


async def test_a_failure_is_everyones(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address) as channel,
    ):
        held.failure = Unavailable("broken")
        calls = [ask(channel, MUNICH) for _ in range(3)]
        await held.until_inside(1)
        await asyncio.sleep(0.2)
        held.gate.set()
        errors = [await refusal(call) for call in calls]
        assert [error.message for error in errors] == ["broken"] * 3
        held.failure = None
        assert not (await locate(channel, MUNICH)).cached


async def test_the_same_image_in_a_batch_is_computed_once(backend: Backend) -> None:
    images = [MUNICH, SYDNEY, MUNICH, QUITO, SYDNEY, MUNICH]
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address, redis_url="redis://127.0.0.1:1/0") as channel,
    ):
        held.gate.set()
        for bypass in (False, True):
            before = held.entered
            batch = pb.BatchLocateRequest(
                sources=[ImageSource(image=image) for image in images],
                options=pb.LocateOptions(bypass_cache=bypass),
            )
            response = await rpc.GeolocationServiceStub(channel).BatchLocate(batch, timeout=30)
            assert held.entered == before + 3
            for image, result in zip(images, response.results, strict=True):
                assert result.response.location == response.results[images.index(image)].response.location
            assert len({result.response.location.latitude for result in response.results}) == 3


async def test_a_batch_is_worked_on_so_many_at_a_time(backend: Backend) -> None:
    async with (
        held_classifier(backend.bundle) as (address, held),
        backend.gateway(classifier_addr=address, batch_concurrency=2) as channel,
    ):
        sources = [ImageSource(image=image_of(10.0 * index, 0.0)) for index in range(5)]
        call = rpc.GeolocationServiceStub(channel).BatchLocate(pb.BatchLocateRequest(sources=sources), timeout=30)
        await held.until_inside(2)
        await asyncio.sleep(0.2)
        assert held.inside == 2
        held.gate.set()
        assert [result.WhichOneof("result") for result in (await call).results] == ["response"] * 5


async def test_entries_are_compressed_and_end_at_different_times(backend: Backend) -> None:
    async with backend.gateway(cache_ttl_s=1000) as channel:
        answers = [await locate(channel, image_of(lat, 20.0), max_neighbors=100) for lat in range(-40, 40, 8)]
    with redis.Redis.from_url(backend.valkey.url) as connection:
        keys = list(connection.scan_iter("*"))
        assert len(keys) == len(answers)
        lives = [int(connection.pttl(key)) / 1000 for key in keys]
        entries = [connection.get(key) for key in keys]
    assert all(890 < life <= 1000 for life in lives)
    assert max(lives) - min(lives) > 5
    unpacked = [pb.LocateResponse.FromString(zstandard.decompress(entry)) for entry in entries]
    assert {each.location.latitude for each in unpacked} == {answer.location.latitude for answer in answers}
    assert sum(map(len, entries)) < 0.7 * sum(each.ByteSize() for each in unpacked)


async def test_many_look_up_at_once_over_one_connection(backend: Backend) -> None:
    async with backend.gateway() as channel:
        images = [image_of(lat, 40.0) for lat in range(-50, 50, 10)]
        fresh = [await locate(channel, image) for image in images]
        answers = await asyncio.gather(*(locate(channel, image) for _ in range(20) for image in images))
        for index, answer in enumerate(answers):
            assert answer.cached
            assert answer.location == fresh[index % len(images)].location
        with redis.Redis.from_url(backend.valkey.url) as connection:
            assert connection.info("clients")["connected_clients"] <= 3  # this one and the gateway's
