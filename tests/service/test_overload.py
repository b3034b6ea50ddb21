"""The classifier over a real socket when its device is slow, hangs or fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bundle_factory import grey_image, image_of, make_bundle
from geofix import server
from geofix.batching import FAILURES_UNTIL_UNHEALTHY
from geofix.bundle import Bundle
from geofix.cpus import available_cpus
from geofix.errors import DeadlineExceeded, Overloaded, Reason, Unavailable
from geofix.sources import Array
from geofix.v1 import classifier_service_pb2 as pb
from geofix.v1 import classifier_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix_classifier import service
from geofix_classifier.classify import Classification, Classifier
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from running import LISTEN, refusal, running, until_state

SECONDS = 30
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Device(Classifier):
    """The real networks behind a gate, and broken on demand. `passes` counts what came to them after start-up."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.broken = False
        self.passes = 0

    def classify(self, batch: Sequence[Array]) -> list[Classification]:
        self.passes += 1
        self.entered.release()
        assert self.gate.wait(SECONDS)
        if self.broken:
            raise RuntimeError("CUDA error 700 at /secret/path")
        return super().classify(batch)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@contextlib.asynccontextmanager
async def serving(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> AsyncIterator[tuple[rpc.ClassifierServiceAsyncStub, Device, grpc.aio.Channel]]:
    devices: list[Device] = []

    def make(*args: object) -> Device:
        devices.append(Device(*args))
        return devices[-1]

    monkeypatch.setattr(service, "Classifier", make)
    settings = ClassifierSettings(
        listen=LISTEN, bundle=bundle.directory, decode_threads=1, threads=available_cpus(), **more
    )  # one lane
    async with running(ClassifierService(settings), settings) as channel:
        (device,) = devices
        device.passes = 0
        while device.entered.acquire(blocking=False):
            pass
        try:
            yield rpc.ClassifierServiceStub(channel), device, channel
        finally:
            device.gate.set()


def request(lat: float = 10.0) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(sources=[ImageSource(image=image_of(lat, 20.0))])


async def held(stub: rpc.ClassifierServiceAsyncStub, device: Device) -> asyncio.Future[pb.ClassifyResponse]:
    """Shuts the gate on a call that is in the device."""
    device.gate.clear()
    call = asyncio.ensure_future(stub.Classify(request()))
    assert await asyncio.to_thread(device.entered.acquire, timeout=SECONDS)
    return call


async def test_a_full_queue_says_when_to_come_back_and_what_was_taken_is_answered(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(bundle, monkeypatch, max_queue=2) as (stub, device, _):
        first = await held(stub, device)
        calls = [asyncio.ensure_future(stub.Classify(request(lat))) for lat in (-40, 0, 40, 60)]
        done, waiting = await asyncio.wait(calls, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        while len(done) < 2:
            more, waiting = await asyncio.wait(waiting, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            done |= more
        for call in done:
            error = await refusal(call)  # type: ignore[arg-type]
            assert isinstance(error, Overloaded)
            assert error.reason is Reason.QUEUE_FULL
            assert error.retry_after_s is not None
            assert error.retry_after_s > 0
        device.gate.set()
        answers = [await first, *await asyncio.gather(*waiting)]
        assert all(answer.model_version == bundle.version for answer in answers)
        assert device.passes == 3


async def test_a_call_past_its_deadline_or_cancelled_never_reaches_the_device(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(bundle, monkeypatch) as (stub, device, _):
        first = await held(stub, device)
        late = stub.Classify(request(), timeout=0.1)
        gone = stub.Classify(request())
        last = asyncio.ensure_future(stub.Classify(request()))
        assert isinstance(await refusal(late), DeadlineExceeded)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await asyncio.sleep(0.2)  # until the server knows
        device.gate.set()
        await asyncio.gather(first, last)
        assert device.passes == 2


async def test_repeated_failures_take_it_out_of_service_and_recovery_brings_it_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEALTH_POLL_S", 0.05)
    async with serving(bundle, monkeypatch) as (stub, device, channel):
        device.broken = True
        for _ in range(FAILURES_UNTIL_UNHEALTHY):
            error = await refusal(stub.Classify(request()))
            assert isinstance(error, Unavailable)
            assert "secret" not in error.message
        await until_state(channel, ClassifierService.full_name, NOT_SERVING, SECONDS)
        device.broken = False
        await until_state(channel, ClassifierService.full_name, SERVING, SECONDS)
        await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=grey_image())]))
