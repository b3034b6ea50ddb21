"""Every RPC of every service answers or refuses whatever is sent, over real sockets, a real Milvus Lite and a real Valkey."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, running_backend
from bundle_factory import EMBEDDING_DIM, FEATURE_DIM, image_of
from fuzzing import INPUTS, damaged, damaged_images, messages, vectors
from geofix.channel import open_channel
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.wire import error_from_status

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(3600 if INPUTS else 300),
]

SERVICES = {
    "gateway": "geofix.v1.GeolocationService",
    "classifier": "geofix.v1.ClassifierService",
    "embedder": "geofix.v1.EmbedderService",
    "retrieval": "geofix.v1.RetrievalService",
}
METHODS = [
    (role, f"/{name}/{method.name}")
    for role, name in SERVICES.items()
    for method in descriptor_pool.Default().FindServiceByName(name).methods
]
TOGETHER = 4
"""Inputs sent at the same time."""
EXAMPLES = max(1, INPUTS // TOGETHER // (2 * len(METHODS))) if INPUTS else 10
"""Of each test and method."""
ACCEPTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
OVERRIDES: dict[str, st.SearchStrategy[Any]] = {
    "image": damaged_images() | st.just(image_of(48.1, 11.6)),
    "feature": vectors(FEATURE_DIM),
    "embedding": vectors(EMBEDDING_DIM),
    "cell_ids": st.integers(0, 29) | st.integers(-(2**31), 2**31 - 1),
}
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not os.environ.get("GEOFIX_FUZZ_SEED"),
    suppress_health_check=list(HealthCheck),
)


Work = Callable[[Coroutine[Any, Any, None]], None]


@dataclass
class Target:
    """The services' channels, and what came of the inputs."""

    channels: dict[str, grpc.aio.Channel]
    codes: Counter[str]

    async def send(self, role: str, method: str, data: bytes) -> tuple[str, bytes]:
        """The code that a request ends with, checked, and the answer's bytes."""
        call: Any = self.channels[role].unary_unary(method)
        try:
            answer, failure = await call(data, timeout=60), None
        except grpc.aio.AioRpcError as error:
            answer, failure = b"", error
        code = failure.code().name if failure else "OK"
        assert code in ACCEPTED, f"{method} ended with {code}: {failure and failure.details()}\n{data.hex()}"
        if failure is not None:
            status = rpc_status.from_call(failure)
            assert status is not None
            assert error_from_status(status) is not None, f"{method}: no ErrorInfo with {code}"
        self.codes[code] += 1
        return code, answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with running_backend(tmp_path_factory.mktemp("backend"), 300) as backend, backend.gateway() as gateway:
        channels = {role: open_channel(address) for role, address in backend.addresses.items()}
        target = Target(channels | {"gateway": gateway}, Counter())
        await ready(target)
        before = state(backend)
        yield target
        await ready(target)
        print(f"\nRPCs: {sum(target.codes.values())} inputs, {dict(target.codes)}")
        for channel in channels.values():
            await channel.close()
        after = state(backend)
        print(f"before {before}, after {after}")
        assert after["descriptors"] <= before["descriptors"] + 20
        assert after["tasks"] <= before["tasks"] + 20


async def ready(target: Target) -> None:
    for role, name in SERVICES.items():
        request = health_pb2.HealthCheckRequest(service=name)
        answer = await health_pb2_grpc.HealthStub(target.channels[role]).Check(request, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, role


def state(_: Backend) -> dict[str, int]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "MiB": resident >> 20,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
    }


def kind_of(method: str) -> type[Message]:
    service, name = method[1:].split("/")
    return GetMessageClass(descriptor_pool.Default().FindServiceByName(service).methods_by_name[name].input_type)


async def run_here(given_test: Callable[[Work], None]) -> None:
    """Run a test of hypothesis, which is synchronous, in a thread; it hands the work to this event loop."""
    loop = asyncio.get_running_loop()

    def work(coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(120)

    await asyncio.to_thread(given_test, work)


@pytest.mark.parametrize(("role", "method"), METHODS, ids=[method for _, method in METHODS])
async def test_any_message_is_answered_or_refused(target: Target, role: str, method: str) -> None:
    several = st.lists(messages(kind_of(method), OVERRIDES), min_size=TOGETHER, max_size=TOGETHER)

    async def check(requests: list[Message]) -> None:
        ended = await asyncio.gather(*(target.send(role, method, each.SerializeToString()) for each in requests))
        for code, answer in ended:
            if code == "OK" and method.endswith("/Locate"):
                location = pb.LocateResponse.FromString(answer).location
                assert math.isfinite(location.latitude + location.longitude)
                assert abs(location.latitude) <= 90
                assert abs(location.longitude) <= 180

    @thorough
    @given(requests=several)
    def whole(work: Work, requests: list[Message]) -> None:
        work(check(requests))

    await run_here(whole)


@pytest.mark.parametrize(("role", "method"), METHODS, ids=[method for _, method in METHODS])
async def test_any_bytes_are_answered_or_refused(target: Target, role: str, method: str) -> None:
    several = st.lists(messages(kind_of(method), OVERRIDES), min_size=TOGETHER, max_size=TOGETHER)

    async def check(requests: list[bytes]) -> None:
        await asyncio.gather(*(target.send(role, method, each) for each in requests))

    @thorough
    @given(requests=several, seed=st.integers(0, 2**32))
    def broken(work: Work, requests: list[Message], seed: int) -> None:
        chance = random.Random(seed)
        work(check([damaged(each.SerializeToString(), chance) for each in requests]))

    await run_here(broken)
