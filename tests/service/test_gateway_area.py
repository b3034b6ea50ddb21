"""The gateway over a real socket when a client knows where an image is from: cells, search and estimate keep to that area."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.type.latlng_pb2 import LatLng

from backends import Backend, locate, locate_or_error
from bundle_factory import image_of
from geofix.area import may_overlap
from geofix.errors import InvalidInput, NotFound, Reason
from geofix.geo import haversine_km
from geofix.search_area import area_from_message
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import types_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH = image_of(48.1, 11.6)
IN_GERMANY = types_pb2.SearchArea(country="DE")
IN_BRAZIL = types_pb2.SearchArea(country="BR")
AROUND_FIJI = types_pb2.SearchArea(
    box=types_pb2.Box(southwest=LatLng(latitude=-25, longitude=170), northeast=LatLng(latitude=-10, longitude=-170))
)
NEAR_MUNICH = types_pb2.SearchArea(circle=types_pb2.Circle(center=LatLng(latitude=49, longitude=12), radius_m=500_000))
STRATEGIES = [pb.STRATEGY_POSTERIOR, pb.STRATEGY_SWC, pb.STRATEGY_RETRIEVAL]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(backend: Backend) -> AsyncIterator[grpc.aio.Channel]:
    async with backend.gateway() as opened:
        yield opened


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "message", [NEAR_MUNICH, IN_GERMANY, IN_BRAZIL, AROUND_FIJI], ids=["circle", "country", "far", "box"]
)
async def test_cells_neighbours_and_estimate_lie_in_the_area(
    channel: grpc.aio.Channel, backend: Backend, message: types_pb2.SearchArea, strategy: pb.Strategy.ValueType
) -> None:
    area = area_from_message(message)
    answer = await locate(
        channel, MUNICH, strategy=strategy, search_area=message, max_cells=64, max_neighbors=1000, max_alternatives=100
    )
    assert area.contains(answer.location.latitude, answer.location.longitude)
    assert answer.neighbors_used > 0
    for neighbor in answer.neighbors:
        assert area.contains(neighbor.neighbor.location.latitude, neighbor.neighbor.location.longitude)
    for alternative in answer.alternatives:
        assert area.contains(alternative.location.latitude, alternative.location.longitude)
    overlapping = may_overlap(backend.bundle.cells, area)
    assert all(overlapping[cell.cell_id] for cell in answer.cells)
    assert not answer.radii
    assert answer.calibration_status == pb.CALIBRATION_STATUS_UNCALIBRATED


async def test_the_best_inside_is_found(channel: grpc.aio.Channel) -> None:
    """Where the area holds the place, its answer is near; where it does not, the nearest look-alike inside is."""
    inside = await locate(channel, MUNICH, search_area=NEAR_MUNICH)
    free = await locate(channel, MUNICH)
    assert float(haversine_km(inside.location.latitude, inside.location.longitude, 48.1, 11.6)) < 300
    assert inside.neighbors[0].neighbor == free.neighbors[0].neighbor
    assert len(free.radii) == 2


async def test_another_area_is_another_question(channel: grpc.aio.Channel) -> None:
    await locate(channel, MUNICH)
    first = await locate(channel, MUNICH, search_area=IN_GERMANY)
    assert not first.cached
    assert not (await locate(channel, MUNICH, search_area=IN_BRAZIL)).cached
    again = await locate(channel, MUNICH, search_area=IN_GERMANY)
    assert again.cached
    assert again.location == first.location


async def test_the_cells_mean_lies_in_the_area_too(channel: grpc.aio.Channel) -> None:
    message = types_pb2.SearchArea(circle=types_pb2.Circle(center=LatLng(latitude=-30, longitude=140), radius_m=3e6))
    answer = await locate(channel, MUNICH, strategy=pb.STRATEGY_CLASSIFICATION, search_area=message)
    assert answer.method == pb.METHOD_CELL_MEAN
    assert area_from_message(message).contains(answer.location.latitude, answer.location.longitude)


async def test_an_area_without_an_image_is_not_found(channel: grpc.aio.Channel) -> None:
    dot = types_pb2.SearchArea(circle=types_pb2.Circle(center=LatLng(latitude=1, longitude=-140), radius_m=1))
    error = await locate_or_error(channel, MUNICH, search_area=dot)
    assert isinstance(error, NotFound)
    assert error.reason is Reason.SEARCH_AREA_EMPTY
    assert error.metadata == {"option": "search_area"}


@pytest.mark.parametrize(
    "message",
    [
        types_pb2.SearchArea(),
        types_pb2.SearchArea(country="XX"),
        types_pb2.SearchArea(country="de"),
        types_pb2.SearchArea(circle=types_pb2.Circle(radius_m=0)),
        types_pb2.SearchArea(circle=types_pb2.Circle(center=LatLng(latitude=float("nan")), radius_m=1)),
        types_pb2.SearchArea(
            box=types_pb2.Box(southwest=LatLng(latitude=5), northeast=LatLng(latitude=-5, longitude=1))
        ),
    ],
)
async def test_an_area_that_is_none_is_refused(channel: grpc.aio.Channel, message: types_pb2.SearchArea) -> None:
    error = await locate_or_error(channel, MUNICH, search_area=message)
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.OPTION_INVALID
    assert error.metadata == {"option": "search_area"}
