"""The client's Python: options to requests, responses to answers, failed calls to exceptions; against real sockets."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.rpc import status_pb2
from google.type.latlng_pb2 import LatLng
from grpc_status import rpc_status

from geofix.area import Box, Circle
from geofix.client import (
    Alternative,
    AsyncClient,
    Cell,
    Client,
    DensityCell,
    LocateOptions,
    Location,
    Neighbor,
    RetryPolicy,
    Timing,
)
from geofix.client.reading import read_info, read_location
from geofix.client.requests import batch_error
from geofix.errors import DeadlineExceeded, GeofixError, InvalidInput, Overloaded, Reason, Unavailable
from geofix.platform.ports import free_ports
from geofix.v1 import error_reason_pb2, types_pb2
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.wire import error_to_status

# Options


def test_nothing_chosen_leaves_everything_to_the_server() -> None:
    message = LocateOptions().message()
    assert message == pb.LocateOptions()
    assert not any(message.HasField(name) for name in ("max_neighbors", "max_cells", "max_alternatives"))


@pytest.mark.parametrize("name", ["max_neighbors", "max_cells", "max_alternatives"])
def test_zero_is_a_choice(name: str) -> None:
    chosen: dict[str, Any] = {name: 0}
    message = LocateOptions(**chosen).message()
    assert name in {field.name for field, _ in message.ListFields()}
    assert getattr(message, name) == 0


def test_every_option_travels() -> None:
    options = LocateOptions(
        "swc",
        (0.5, 0.8),
        max_alternatives=1,
        max_cells=2,
        max_neighbors=3,
        bypass_cache=True,
        allow_degraded=True,
    )
    assert options.message() == pb.LocateOptions(
        strategy=pb.STRATEGY_SWC,
        radius_probabilities=[0.5, 0.8],
        max_alternatives=1,
        max_cells=2,
        max_neighbors=3,
        bypass_cache=True,
        allow_degraded=True,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("posterior", pb.STRATEGY_POSTERIOR),
        ("swc", pb.STRATEGY_SWC),
        ("classification", pb.STRATEGY_CLASSIFICATION),
        ("retrieval", pb.STRATEGY_RETRIEVAL),
        ("SWC", pb.STRATEGY_SWC),
        (None, pb.STRATEGY_UNSPECIFIED),
    ],
)
def test_strategies_by_name(name: str | None, value: int) -> None:
    assert LocateOptions(strategy=name).message().strategy == value


def test_a_strategy_of_no_such_name_says_which_there_are() -> None:
    with pytest.raises(InvalidInput, match="choose one of posterior, swc, classification, retrieval") as caught:
        LocateOptions(strategy="magic").message()
    assert "'magic'" in caught.value.message
    assert caught.value.reason is Reason.OPTION_INVALID
    assert caught.value.metadata == {"option": "strategy"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_neighbors": 2**31},
        {"max_cells": -(2**31) - 1},
        {"max_alternatives": 1.5},
        {"max_neighbors": "many"},
        {"probabilities": ["half"]},
        {"probabilities": 0.9},
    ],
)
def test_what_the_contract_cannot_carry_is_refused_before_it_is_sent(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="out of its range"):
        LocateOptions(**wrong).message()


@pytest.mark.parametrize(
    ("area", "message"),
    [
        ("no", types_pb2.SearchArea(country="NO")),
        (
            Circle(1, 2, 3000),
            types_pb2.SearchArea(circle=types_pb2.Circle(center=LatLng(latitude=1, longitude=2), radius_m=3000)),
        ),
        (
            Box(-1, 170, 1, -170),
            types_pb2.SearchArea(
                box=types_pb2.Box(
                    southwest=LatLng(latitude=-1, longitude=170), northeast=LatLng(latitude=1, longitude=-170)
                )
            ),
        ),
    ],
)
def test_an_area_travels(area: Circle | Box | str, message: types_pb2.SearchArea) -> None:
    assert LocateOptions(area=area).message().search_area == message


# Answers

RESPONSE = pb.LocateResponse(
    location=LatLng(latitude=1.5, longitude=-2.5),
    localizable=True,
    method=pb.METHOD_CELL_SEARCH,
    strategy=pb.STRATEGY_POSTERIOR,
    radii=[pb.Radius(probability=0.5, radius_m=1000), pb.Radius(probability=0.9, radius_m=5000)],
    calibration_status=pb.CALIBRATION_STATUS_CALIBRATED,
    alternatives=[
        pb.Alternative(location=LatLng(latitude=3, longitude=4), weight=0.75, neighbors=7),
        pb.Alternative(location=LatLng(latitude=5, longitude=6), weight=0.25, neighbors=1),
    ],
    cells=[
        types_pb2.CellWeight(
            cell_id=9, log_weight=-0.5, mean=LatLng(latitude=7, longitude=8), kappa=20, s2_tokens=["04", "0c"]
        )
    ],
    neighbors=[
        pb.WeightedNeighbor(
            neighbor=types_pb2.Neighbor(
                id="ab",
                location=LatLng(latitude=9, longitude=10),
                cell_id=3,
                similarity=0.5,
                picture="p",
                attribution="a",
            ),
            weight=0.125,
            alternative=-1,
        )
    ],
    neighbors_used=20,
    model_version="tiny@00",
    gallery_version="gallery_tiny_11",
    cached=True,
    timing=pb.Timing(
        total_ms=6,
        cache_ms=1,
        classify_ms=2,
        embed_ms=3,
        search_ms=4,
        aggregate_ms=5,
        preprocess_ms=7,
        inference_ms=8,
        database_ms=9,
        queue_ms=10,
    ),
    degraded=True,
    degraded_reason=error_reason_pb2.ERROR_REASON_GALLERY_UNAVAILABLE,
    degraded_message="why",
    density=[pb.DensityCell(s2_token="0c", probability=0.75)],
)
LOCATION = Location(
    lat=1.5,
    lon=-2.5,
    localizable=True,
    method="cell_search",
    strategy="posterior",
    radii={0.5: 1000, 0.9: 5000},
    calibrated=True,
    alternatives=(Alternative(3, 4, 0.75, 7), Alternative(5, 6, 0.25, 1)),
    cells=(Cell(9, -0.5, 7, 8, 20, ("04", "0c")),),
    neighbors=(Neighbor("ab", 9, 10, 3, 0.5, 0.125, -1, "p", "a"),),
    neighbors_used=20,
    model_version="tiny@00",
    gallery_version="gallery_tiny_11",
    cached=True,
    timing=Timing(6, 1, 2, 3, 4, 5, 7, 8, 9, 10),
    degraded=True,
    degraded_reason="GALLERY_UNAVAILABLE",
    degraded_message="why",
    density=(DensityCell("0c", 0.75),),
)


def test_every_field_of_an_answer_is_read() -> None:
    assert {field.name for field, _ in RESPONSE.ListFields()} == set(pb.LocateResponse.DESCRIPTOR.fields_by_name)
    assert read_location(RESPONSE) == LOCATION


def test_a_radius_by_its_probability() -> None:
    assert LOCATION.radius_m(0.9) == 5000
    assert LOCATION.radius_m(0.8) is None


def test_an_answer_that_is_not_localizable_has_a_guess_and_no_radius() -> None:
    found = read_location(pb.LocateResponse(location=LatLng(latitude=1, longitude=2), method=pb.METHOD_CELL_MEAN))
    assert (found.lat, found.lon) == (1, 2)
    assert not found.localizable
    assert not found.calibrated
    assert found.radius_m(0.9) is None
    assert found.method == "cell_mean"
    assert (found.degraded, found.degraded_reason, found.degraded_message) == (False, "", "")
    assert found.timing == Timing()


@pytest.mark.parametrize("status", [pb.CALIBRATION_STATUS_UNSPECIFIED, pb.CALIBRATION_STATUS_UNCALIBRATED])
def test_calibrated_is_what_says_so_and_nothing_else(status: pb.CalibrationStatus.ValueType) -> None:
    assert not read_location(pb.LocateResponse(calibration_status=status)).calibrated


def test_the_methods_of_a_newer_server_are_no_error() -> None:
    newer = pb.LocateResponse()
    newer.ParseFromString(pb.LocateResponse(location=LatLng(latitude=1)).SerializeToString() + b"\x18\x63\x20\x62")
    found = read_location(newer)
    assert (found.lat, found.method, found.strategy) == (1, "99", "98")


def test_an_answer_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LOCATION.lat = 0.0  # type: ignore[misc]


def test_what_a_deployment_says_of_itself_is_read() -> None:
    info = read_info(INFO)
    assert (info.model_version, info.gallery_version, info.feature_dim, info.calibrated) == ("tiny@00", "g", 32, True)
    assert (info.max_image_bytes, info.max_image_pixels, info.max_batch) == (1, 2, 3)


def test_an_error_of_a_batch_keeps_its_reason_and_without_one_its_message() -> None:
    known = batch_error(
        pb.BatchLocateResult(error=error_to_status(InvalidInput("empty", Reason.IMAGE_EMPTY, {"a": "b"})))
    )
    assert isinstance(known, InvalidInput)
    assert (known.message, known.reason, known.metadata) == ("empty", Reason.IMAGE_EMPTY, {"a": "b"})
    foreign = status_pb2.Status(code=13, message="odd")
    foreign.details.add().Pack(struct_pb2.Struct())
    unknown = batch_error(pb.BatchLocateResult(error=foreign))
    assert type(unknown) is GeofixError
    assert unknown.message == "odd"


# Calls

INFO = pb.GetServiceInfoResponse(
    model_version="tiny@00",
    gallery_version="g",
    feature_dim=32,
    calibration_status=pb.CALIBRATION_STATUS_CALIBRATED,
    limits=types_pb2.Limits(max_image_bytes=1, max_image_pixels=2, max_batch=3),
)
ONCE = RetryPolicy(attempts=1)
FULL = Overloaded("the queue is full")
BEHIND = Unavailable(
    "the classifier at 10.0.0.1:1 cannot be reached", metadata={"service": "the classifier at 10.0.0.1:1"}
)


class Gateway(rpc.GeolocationServiceServicer):
    """Answers by the first letter of the image, and keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[pb.LocateRequest] = []

    def Locate(self, request: pb.LocateRequest, context: grpc.ServicerContext) -> pb.LocateResponse:
        self.asked.append(request)
        for letter, error in ((b"f", FULL), (b"b", BEHIND)):
            if request.source.image.startswith(letter):
                context.abort_with_status(rpc_status.to_status(error_to_status(error)))
        if request.source.image.startswith(b"h"):
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        return RESPONSE

    def BatchLocate(self, request: pb.BatchLocateRequest, context: grpc.ServicerContext) -> pb.BatchLocateResponse:
        results = [
            pb.BatchLocateResult(response=RESPONSE)
            if source.image
            else pb.BatchLocateResult(error=error_to_status(InvalidInput("empty", Reason.IMAGE_EMPTY)))
            for source in request.sources
        ]
        return pb.BatchLocateResponse(results=results)

    def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServiceInfoResponse:
        return INFO


@pytest.fixture
def gateway() -> Iterator[tuple[Gateway, str]]:
    servicer = Gateway()
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_GeolocationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_blocking_client(gateway: tuple[Gateway, str]) -> None:
    servicer, address = gateway
    with Client(address) as client:
        assert client.locate(b"image", LocateOptions(strategy="swc")) == LOCATION
        assert client.locate_feature(b"feature") == LOCATION
        good, bad = client.locate_batch([b"image", b""])
        assert client.info() == read_info(INFO)
    assert good == LOCATION
    assert isinstance(bad, InvalidInput)
    assert servicer.asked == [
        pb.LocateRequest(
            source=types_pb2.ImageSource(image=b"image"), options=pb.LocateOptions(strategy=pb.STRATEGY_SWC)
        ),
        pb.LocateRequest(source=types_pb2.ImageSource(feature=b"feature"), options=pb.LocateOptions()),
    ]


async def test_the_asyncio_client(gateway: tuple[Gateway, str]) -> None:
    servicer, address = gateway
    async with AsyncClient(address, retry=ONCE) as client:
        assert await client.locate(b"image", LocateOptions(strategy="swc")) == LOCATION
        assert await client.locate_feature(b"feature") == LOCATION
        good, bad = await client.locate_batch([b"image", b""])
        assert await client.info() == read_info(INFO)
        with pytest.raises(Overloaded, match="the queue is full"):
            await client.locate(b"full")
    assert good == LOCATION
    assert isinstance(bad, InvalidInput)
    assert [request.source.WhichOneof("source") for request in servicer.asked] == ["image", "feature", "image"]


def test_an_error_arrives_as_it_was_raised(gateway: tuple[Gateway, str]) -> None:
    with Client(gateway[1], retry=ONCE) as client, pytest.raises(Overloaded) as caught:
        client.locate(b"full")
    assert (caught.value.message, caught.value.reason) == (FULL.message, FULL.reason)


def test_a_service_behind_the_gateway_is_named_not_the_gateway(gateway: tuple[Gateway, str]) -> None:
    with Client(gateway[1]) as client, pytest.raises(Unavailable, match=r"the classifier at 10\.0\.0\.1:1") as caught:
        client.locate(b"behind")
    assert "geofix up" not in caught.value.message


def test_too_late_names_the_platform(gateway: tuple[Gateway, str]) -> None:
    with Client(gateway[1]) as client, pytest.raises(DeadlineExceeded, match=gateway[1]):
        client.locate(b"hang")


def test_a_message_over_the_limit_is_an_input_error(gateway: tuple[Gateway, str]) -> None:
    with Client(gateway[1]) as client, pytest.raises(InvalidInput) as caught:
        client.locate(bytes(33 * 1024 * 1024))
    assert caught.value.reason is Reason.IMAGE_TOO_MANY_BYTES
    with Client(gateway[1]) as client, pytest.raises(InvalidInput) as caught:
        client.locate_batch([bytes(17 * 1024 * 1024)] * 2)
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE


def test_nobody_there_says_how_to_start_it() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with Client(address) as client, pytest.raises(Unavailable, match=rf"{address} cannot be reached.*geofix up"):
        client.info()


async def test_nobody_there_says_how_to_start_it_to_the_asyncio_client_too() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    async with AsyncClient(address) as client:
        with pytest.raises(Unavailable, match=rf"{address} cannot be reached.*geofix up"):
            await client.info()


def test_a_server_that_says_nothing_is_waited_for_as_long_as_the_call_may_take() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with Client(address, timeout_s=200) as client, pytest.raises(DeadlineExceeded, match=address):
            client.locate(b"image", timeout_s=0.3)
        assert 0.3 <= time.monotonic() - began < 100
