"""Which calls are tried again, when, and how many: the arithmetic alone, then both clients against a real socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from geofix.client import AsyncClient, Client, RetryPolicy
from geofix.client.retry import Attempts, RetryBudget
from geofix.errors import DeadlineExceeded, GeofixError, InvalidInput, Overloaded, Unavailable
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.wire import error_to_status

DOWN, FULL = Unavailable("down"), Overloaded("full")


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(policy: RetryPolicy, timeout_s: float = 10, draw: float = 1.0, clock: Clock | None = None) -> Attempts:
    return Attempts(policy, RetryBudget(policy.budget), timeout_s, clock or Clock(), lambda: draw)


def test_pauses_double_up_to_the_longest() -> None:
    tries = attempts(RetryPolicy(attempts=6, first_pause_s=0.1, max_pause_s=0.5))
    assert [tries.pause_after(DOWN, None) for _ in range(6)] == [0.1, 0.2, 0.4, 0.5, 0.5, None]


def test_a_pause_is_drawn_from_the_upper_half() -> None:
    policy = RetryPolicy(first_pause_s=1)
    assert [attempts(policy, draw=draw).pause_after(DOWN, None) for draw in (0, 0.5, 1)] == [0.5, 0.75, 1]


def test_what_the_server_states_is_waited_for_and_up_to_a_quarter_more() -> None:
    assert [attempts(RetryPolicy(), draw=draw).pause_after(FULL, 3.0) for draw in (0, 1)] == [3.0, 3.75]


@pytest.mark.parametrize("error", [InvalidInput("no"), DeadlineExceeded("late"), GeofixError("odd")])
def test_other_errors_are_final(error: GeofixError) -> None:
    assert attempts(RetryPolicy()).pause_after(error, None) is None


def test_no_pause_outlasts_the_deadline() -> None:
    clock = Clock()
    tries = attempts(RetryPolicy(first_pause_s=1), timeout_s=2, clock=clock)
    assert tries.pause_after(DOWN, None) == 1
    clock.now += 1.5
    assert tries.left_s() == 0.5
    assert tries.pause_after(DOWN, None) is None
    clock.now += 1.0
    assert tries.left_s() == 0


def test_a_budget_ends_the_retries_of_many_calls_and_successes_earn_it_back() -> None:
    policy, budget = RetryPolicy(), RetryBudget(3)

    def call() -> Attempts:
        return Attempts(policy, budget, 10, Clock(), lambda: 0.0)

    assert [call().pause_after(DOWN, None) is None for _ in range(5)] == [False, False, False, True, True]
    for _ in range(5):
        call().succeeded()
    assert [call().pause_after(DOWN, None) is None for _ in range(2)] == [False, True]
    for _ in range(100):
        call().succeeded()
    assert [call().pause_after(DOWN, None) is None for _ in range(4)] == [False, False, False, True], (
        "never over its most"
    )


# Against a socket


class Flaky(rpc.GeolocationServiceServicer):
    """Fails so many times, with a stated pause or without, then answers."""

    def __init__(self) -> None:
        self.error: GeofixError = FULL
        self.failures = 0
        self.stated_s: float | None = None
        self.asked: list[float] = []
        self.deadlines: list[float] = []

    def BatchLocate(self, request: pb.BatchLocateRequest, context: grpc.ServicerContext) -> pb.BatchLocateResponse:
        raise NotImplementedError

    def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServiceInfoResponse:
        raise NotImplementedError

    def Locate(self, request: pb.LocateRequest, context: grpc.ServicerContext) -> pb.LocateResponse:
        self.asked.append(time.monotonic())
        self.deadlines.append(context.time_remaining())
        if len(self.asked) <= self.failures:
            status = error_to_status(self.error)
            if self.stated_s is not None:
                status.details.add().Pack(RetryInfo(retry_delay=Duration(nanos=int(self.stated_s * 1e9))))
            context.abort_with_status(rpc_status.to_status(status))
        return pb.LocateResponse(localizable=True)


@pytest.fixture
def flaky() -> Iterator[tuple[Flaky, str]]:
    servicer = Flaky()
    server = grpc.server(ThreadPoolExecutor(2))
    rpc.add_GeolocationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


FAST = RetryPolicy(attempts=3, first_pause_s=0.01)


@pytest.mark.parametrize("error", [DOWN, FULL])
def test_down_and_full_are_tried_again(flaky: tuple[Flaky, str], error: GeofixError) -> None:
    servicer, address = flaky
    servicer.error, servicer.failures = error, 2
    with Client(address, retry=FAST) as client:
        assert client.locate(b"image").localizable
    assert len(servicer.asked) == 3


async def test_down_and_full_are_tried_again_in_asyncio(flaky: tuple[Flaky, str]) -> None:
    servicer, address = flaky
    servicer.failures = 2
    async with AsyncClient(address, retry=FAST) as client:
        assert (await client.locate(b"image")).localizable
    assert len(servicer.asked) == 3


def test_the_last_error_is_raised(flaky: tuple[Flaky, str]) -> None:
    servicer, address = flaky
    servicer.failures = 9
    with Client(address, retry=FAST) as client, pytest.raises(Overloaded, match="full"):
        client.locate(b"image")
    assert len(servicer.asked) == 3


def test_the_pause_that_a_server_states_is_kept(flaky: tuple[Flaky, str]) -> None:
    servicer, address = flaky
    servicer.failures, servicer.stated_s = 1, 0.3
    with Client(address, retry=FAST) as client:
        client.locate(b"image")
    assert servicer.asked[1] - servicer.asked[0] >= 0.3
    assert servicer.deadlines[1] < servicer.deadlines[0] - 0.2, "one deadline for all attempts"


def test_a_stated_pause_beyond_the_deadline_is_not_waited_for(flaky: tuple[Flaky, str]) -> None:
    servicer, address = flaky
    servicer.failures, servicer.stated_s = 1, 0.9
    began = time.monotonic()
    with Client(address, retry=FAST, timeout_s=0.8) as client, pytest.raises(Overloaded):
        client.locate(b"image")
    assert (len(servicer.asked), time.monotonic() - began < 0.8) == (1, True)


def test_bad_input_is_never_sent_twice(flaky: tuple[Flaky, str]) -> None:
    servicer, address = flaky
    servicer.error, servicer.failures = InvalidInput("not an image"), 9
    with Client(address, retry=FAST) as client, pytest.raises(InvalidInput):
        client.locate(b"image")
    assert len(servicer.asked) == 1
