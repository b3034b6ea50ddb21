"""The gateway over a real socket, before real services, a real Milvus Lite and a real Valkey: what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import redis
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from backends import RULE, Backend, locate, request_of
from bundle_factory import EMBEDDING_DIM, FEATURE_DIM, grey_image, image_of
from geofix.decision import Strategy
from geofix.errors import InvalidInput, Reason
from geofix.geo import haversine_km, xyz_to_latlon
from geofix.posterior import neighbor_weights
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix.vectors import pack_vector
from running import refusal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH, SYDNEY, QUITO = image_of(48.1, 11.6), image_of(-33.9, 151.2), image_of(-0.2, -78.5)
PLACES = [
    (48.1, 11.6),
    (-33.9, 151.2),
    (0.0, 0.0),
    (90.0, 0.0),
    (-89.5, 40.0),
    (-17.0, 179.95),
    (-17.0, -179.95),
    (65.0, 180.0),
]
METHODS = {
    "cell_search": pb.METHOD_CELL_SEARCH,
    "gallery_search": pb.METHOD_GALLERY_SEARCH,
    "cell_mean": pb.METHOD_CELL_MEAN,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(backend: Backend) -> AsyncIterator[grpc.aio.Channel]:
    async with backend.gateway(max_batch=6) as opened:
        yield opened


def stub(channel: grpc.aio.Channel) -> rpc.GeolocationServiceAsyncStub:
    return rpc.GeolocationServiceStub(channel)


async def error_of(channel: grpc.aio.Channel, request: pb.LocateRequest) -> InvalidInput:
    error = await refusal(stub(channel).Locate(request, timeout=30))
    assert isinstance(error, InvalidInput)
    return error


def same_but_for_the_time(first: pb.LocateResponse, second: pb.LocateResponse) -> bool:
    copies = []
    for each in (first, second):
        copy = pb.LocateResponse()
        copy.CopyFrom(each)
        copy.ClearField("timing")
        copy.ClearField("cached")
        copies.append(copy)
    return bool(copies[0] == copies[1])


@pytest.mark.parametrize(("lat", "lon"), PLACES)
async def test_an_image_is_placed_as_the_local_engine_places_it(
    channel: grpc.aio.Channel, backend: Backend, lat: float, lon: float
) -> None:
    image = image_of(lat, lon)
    answer = await locate(channel, image)
    place = (answer.location.latitude, answer.location.longitude)
    assert float(haversine_km(*place, lat, lon)) < 600
    assert -90 <= place[0] <= 90
    assert -180 <= place[1] <= 180
    expected = backend.engine.decide(backend.engine.heads(backend.engine.feature(image)[None])[0])
    assert float(haversine_km(*place, *xyz_to_latlon(expected.xyz))) < 0.1
    assert answer.method == METHODS[expected.method]
    calibration = backend.bundle.calibration
    assert answer.localizable is calibration.localizable(expected.signals) is True
    assert answer.calibration_status == pb.CALIBRATION_STATUS_CALIBRATED
    assert [r.probability for r in answer.radii] == [0.5, 0.9]
    for radius in answer.radii:
        km = calibration.radius_km(expected.signals, radius.probability)
        assert radius.radius_m == pytest.approx(1000 * (km or 0))


async def test_the_evidence_is_whole_and_in_order(channel: grpc.aio.Channel, backend: Backend) -> None:
    answer = await locate(channel, MUNICH, max_neighbors=1000, max_cells=64, max_alternatives=100)
    heads = backend.engine.heads(backend.engine.feature(MUNICH)[None])[0]
    decision = backend.engine.decide(heads)
    cells = backend.bundle.cells

    assert [cell.cell_id for cell in answer.cells] == heads.cells.cell_id.tolist()
    np.testing.assert_allclose([cell.log_weight for cell in answer.cells], heads.cells.log_weight, rtol=1e-5)
    assert [cell.kappa for cell in answer.cells] == pytest.approx(cells.kappa[heads.cells.cell_id])
    assert [tuple(cell.s2_tokens) for cell in answer.cells] == [cells.s2_tokens[i] for i in heads.cells.cell_id]
    mean = answer.cells[0].mean
    assert float(haversine_km(mean.latitude, mean.longitude, *xyz_to_latlon(heads.cells.xyz[0]))) < 0.1

    rows, neighbors = backend.engine.gallery.search(
        heads.embedding, tuple(heads.cells.cell_id[: RULE.cells].tolist()), RULE.k
    )
    assert answer.neighbors_used == RULE.k == len(answer.neighbors)
    assert [n.neighbor.id for n in answer.neighbors] == [backend.engine.gallery.ids[row] for row in rows]
    assert [n.neighbor.cell_id for n in answer.neighbors] == neighbors.cell_id.tolist()
    np.testing.assert_allclose([n.neighbor.similarity for n in answer.neighbors], neighbors.similarity, atol=1e-5)
    weights = [n.weight for n in answer.neighbors]
    np.testing.assert_allclose(weights, neighbor_weights(neighbors, heads.cells, RULE.temperature), atol=1e-3)
    assert sum(weights) == pytest.approx(1)
    first = answer.neighbors[0].neighbor
    assert first.picture.startswith(f"crop:lat={first.location.latitude:.4f}&lon={first.location.longitude:.4f}")
    assert first.attribution == "synthetic"

    assert len(answer.alternatives) == len(decision.clusters) > 1
    by_alternative: dict[int, list[pb.WeightedNeighbor]] = {}
    for neighbor in answer.neighbors:
        by_alternative.setdefault(neighbor.alternative, []).append(neighbor)
    assert set(by_alternative) == {-1, *range(len(answer.alternatives))}  # there is noise among them
    for index, alternative in enumerate(answer.alternatives):
        members = by_alternative[index]
        assert alternative.neighbors == len(members)
        assert alternative.weight == pytest.approx(sum(member.weight for member in members))
        place = (alternative.location.latitude, alternative.location.longitude)
        assert float(haversine_km(*place, *xyz_to_latlon(decision.clusters[index].xyz))) < 0.1
    ordered = [alternative.weight for alternative in answer.alternatives]
    assert ordered == sorted(ordered, reverse=True)

    assert answer.model_version == backend.bundle.version
    assert answer.gallery_version == backend.bundle.gallery_version
    timing = answer.timing
    stages = [timing.classify_ms, timing.embed_ms, timing.search_ms, timing.aggregate_ms]
    assert min(*stages, timing.cache_ms) > 0
    assert sum(stages) + timing.cache_ms <= timing.total_ms


@pytest.mark.parametrize(
    ("options", "neighbors", "cells", "alternatives"),
    [
        ({}, 20, 5, 5),
        ({"max_neighbors": 0, "max_cells": 0, "max_alternatives": 0}, 0, 0, 0),
        ({"max_neighbors": 1, "max_cells": 1, "max_alternatives": 1}, 1, 1, 1),
        ({"max_neighbors": 3, "max_cells": 7, "max_alternatives": 2}, 3, 7, 2),
        ({"max_neighbors": 1000, "max_cells": 64, "max_alternatives": 100}, 20, 30, None),
    ],
)
async def test_limits_on_the_evidence_are_kept_and_change_nothing_else(
    channel: grpc.aio.Channel, options: dict[str, int], neighbors: int, cells: int, alternatives: int | None
) -> None:
    whole = await locate(channel, QUITO, max_neighbors=1000, max_cells=64, max_alternatives=100)
    answer = await locate(channel, QUITO, **options)
    most = len(whole.alternatives)
    assert most >= 2
    assert (len(answer.neighbors), len(answer.cells)) == (neighbors, cells)
    assert len(answer.alternatives) == (most if alternatives is None else min(alternatives, most))
    assert list(answer.neighbors) == list(whole.neighbors)[:neighbors]
    assert list(answer.cells) == list(whole.cells)[:cells]
    assert list(answer.alternatives) == list(whole.alternatives)[: len(answer.alternatives)]
    assert answer.neighbors_used == RULE.k
    assert answer.location == whole.location
    assert answer.radii == whole.radii


@pytest.mark.parametrize(
    ("value", "strategy", "used"),
    [
        (pb.STRATEGY_UNSPECIFIED, Strategy.POSTERIOR, RULE.k),
        (pb.STRATEGY_POSTERIOR, Strategy.POSTERIOR, RULE.k),
        (pb.STRATEGY_SWC, Strategy.SWC, RULE.swc_k),
        (pb.STRATEGY_CLASSIFICATION, Strategy.CLASSIFICATION, 0),
        (pb.STRATEGY_RETRIEVAL, Strategy.RETRIEVAL, RULE.swc_k),
    ],
)
async def test_each_strategy_answers_as_the_local_engine(
    channel: grpc.aio.Channel, backend: Backend, value: pb.Strategy.ValueType, strategy: Strategy, used: int
) -> None:
    answer = await locate(channel, SYDNEY, strategy=value)
    expected = backend.engine.decide(backend.engine.heads(backend.engine.feature(SYDNEY)[None])[0], strategy)
    place = (answer.location.latitude, answer.location.longitude)
    assert float(haversine_km(*place, *xyz_to_latlon(expected.xyz))) < 0.1
    assert answer.strategy == (value or pb.STRATEGY_POSTERIOR)
    assert answer.method == METHODS[expected.method]
    assert answer.neighbors_used == used
    assert len(answer.alternatives) == min(5, len(expected.clusters))
    assert answer.localizable
    calibrated = strategy is Strategy.POSTERIOR
    assert len(answer.radii) == (2 if calibrated else 0)
    status = pb.CALIBRATION_STATUS_CALIBRATED if calibrated else pb.CALIBRATION_STATUS_UNCALIBRATED
    assert answer.calibration_status == status
    searched = strategy is not Strategy.CLASSIFICATION
    assert answer.gallery_version == (backend.bundle.gallery_version if searched else "")
    assert (answer.timing.search_ms > 0) is searched


async def test_what_the_model_cannot_place_gets_a_guess_without_radii(channel: grpc.aio.Channel) -> None:
    answer = await locate(channel, grey_image())
    assert not answer.localizable
    assert not answer.radii
    assert answer.HasField("location")
    assert np.isfinite([answer.location.latitude, answer.location.longitude]).all()
    assert answer.neighbors_used == RULE.k


async def test_radii_are_those_asked_for_in_their_order(channel: grpc.aio.Channel) -> None:
    asked = [0.95, 0.5, 0.8, 0.5]
    answer = await locate(channel, SYDNEY, radius_probabilities=asked)
    assert [radius.probability for radius in answer.radii] == asked
    assert [radius.radius_m for radius in answer.radii] == pytest.approx([1_500_000, 500_000, 800_000, 500_000])


async def test_a_feature_gives_the_answer_of_its_image(channel: grpc.aio.Channel, backend: Backend) -> None:
    feature = pack_vector(backend.engine.feature(SYDNEY))
    answer = await locate(channel, ImageSource(feature=feature))
    assert not answer.cached
    assert same_but_for_the_time(answer, await locate(channel, SYDNEY))


async def test_many_at_once_get_each_their_own(channel: grpc.aio.Channel) -> None:
    places = [(float(lat), float(lon)) for lat in (-60, -20, 20, 60) for lon in (-150, -90, -30, 30, 90, 150)]
    answers = await asyncio.gather(*(locate(channel, image_of(*place)) for place in places))
    for (lat, lon), answer in zip(places, answers, strict=True):
        assert float(haversine_km(answer.location.latitude, answer.location.longitude, lat, lon)) < 900


SHORT = pack_vector(np.ones(FEATURE_DIM - 1))


@pytest.mark.parametrize(
    ("source", "reason", "facts"),
    [
        (ImageSource(), Reason.IMAGE_MISSING, {}),
        (ImageSource(image=b""), Reason.IMAGE_EMPTY, {}),
        (ImageSource(image=b"no image"), Reason.IMAGE_UNREADABLE, {}),
        (ImageSource(image=MUNICH[:60]), Reason.IMAGE_UNREADABLE, {}),
        (ImageSource(image=b"GIF89a" + bytes(64)), Reason.IMAGE_FORMAT_UNSUPPORTED, {"format": "GIF"}),
        (ImageSource(feature=b""), Reason.FEATURE_INVALID, {"expected_bytes": "128", "bytes": "0"}),
        (ImageSource(feature=SHORT), Reason.FEATURE_INVALID, {"expected_bytes": "128", "bytes": "124"}),
        (ImageSource(feature=pack_vector([np.inf] * FEATURE_DIM)), Reason.FEATURE_INVALID, {}),
    ],
)
async def test_a_bad_source_is_refused_with_its_reason(
    channel: grpc.aio.Channel, source: ImageSource, reason: Reason, facts: dict[str, str]
) -> None:
    error = await error_of(channel, request_of(source))
    assert error.reason is reason
    assert facts.items() <= error.metadata.items()
    assert "index" not in error.metadata  # that is a batch's


async def test_a_request_without_a_source_is_refused(channel: grpc.aio.Channel) -> None:
    assert (await error_of(channel, pb.LocateRequest())).reason is Reason.IMAGE_MISSING


async def test_a_message_over_the_limit_is_refused(backend: Backend) -> None:
    async with backend.gateway(max_message_bytes=50_000) as channel:
        error = await error_of(channel, request_of(bytes(60_000)))
        assert error.reason is Reason.MESSAGE_TOO_LARGE
        assert not (await locate(channel, MUNICH)).cached


BAD_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("strategy", {"strategy": 5}),
    ("strategy", {"strategy": -1}),
    ("radius_probabilities", {"radius_probabilities": [0.5, 0.4999]}),
    ("radius_probabilities", {"radius_probabilities": [0.9501]}),
    ("radius_probabilities", {"radius_probabilities": [float("nan")]}),
    ("radius_probabilities", {"radius_probabilities": [0.5] * 17}),
    ("max_neighbors", {"max_neighbors": -1}),
    ("max_neighbors", {"max_neighbors": 1001}),
    ("max_cells", {"max_cells": -1}),
    ("max_cells", {"max_cells": 65}),
    ("max_alternatives", {"max_alternatives": -1}),
    ("max_alternatives", {"max_alternatives": 101}),
]


@pytest.mark.parametrize(("name", "options"), BAD_OPTIONS)
async def test_an_option_out_of_range_is_refused_by_name(
    channel: grpc.aio.Channel, name: str, options: dict[str, Any]
) -> None:
    error = await error_of(channel, request_of(MUNICH, **options))
    assert error.reason is Reason.OPTION_INVALID
    assert error.metadata == {"option": name}
    batch = pb.BatchLocateRequest(sources=[ImageSource(image=MUNICH)], options=pb.LocateOptions(**options))
    assert (await refusal(stub(channel).BatchLocate(batch, timeout=30))).metadata == {"option": name}


async def test_sixteen_radii_are_not_too_many(channel: grpc.aio.Channel) -> None:
    assert len((await locate(channel, MUNICH, radius_probabilities=[0.5] * 16)).radii) == 16


async def test_a_batch_keeps_the_order(channel: grpc.aio.Channel, backend: Backend) -> None:
    images = [SYDNEY, MUNICH, QUITO]
    feature = pack_vector(backend.engine.feature(MUNICH))
    sources = [ImageSource(image=SYDNEY), ImageSource(feature=feature), ImageSource(image=QUITO)]
    options = pb.LocateOptions(max_neighbors=2, strategy=pb.STRATEGY_SWC, bypass_cache=True)
    response = await stub(channel).BatchLocate(pb.BatchLocateRequest(sources=sources, options=options), timeout=30)
    assert len(response.results) == 3
    for image, result in zip(images, response.results, strict=True):
        alone = await stub(channel).Locate(request_of(image, options), timeout=30)
        assert result.WhichOneof("result") == "response"
        assert same_but_for_the_time(result.response, alone)
        assert len(result.response.neighbors) == 2


def info_of(status: Status) -> ErrorInfo:
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def test_a_bad_item_of_a_batch_has_an_error_of_its_own(channel: grpc.aio.Channel) -> None:
    sources = [
        ImageSource(image=MUNICH),
        ImageSource(image=b"no image"),
        ImageSource(),
        ImageSource(feature=SHORT),
        ImageSource(image=SYDNEY),
    ]
    response = await stub(channel).BatchLocate(pb.BatchLocateRequest(sources=sources), timeout=30)
    kinds = [result.WhichOneof("result") for result in response.results]
    assert kinds == ["response", "error", "error", "error", "response"]
    errors = [result.error for result in response.results[1:4]]
    assert [error.code for error in errors] == [grpc.StatusCode.INVALID_ARGUMENT.value[0]] * 3
    assert [info_of(error).reason for error in errors] == ["IMAGE_UNREADABLE", "IMAGE_MISSING", "FEATURE_INVALID"]
    assert {info_of(error).domain for error in errors} == {"geofix.v1"}
    assert all(error.message for error in errors)
    assert "index" not in info_of(errors[0]).metadata  # 0 of a call of one image would be taken for the batch's first
    for image, result in ((MUNICH, response.results[0]), (SYDNEY, response.results[4])):
        assert same_but_for_the_time(result.response, await locate(channel, image))


async def test_a_batch_over_the_limit_is_refused_whole(channel: grpc.aio.Channel) -> None:
    full = pb.BatchLocateRequest(sources=[ImageSource(image=MUNICH)] * 6)
    assert len((await stub(channel).BatchLocate(full, timeout=30)).results) == 6
    over = pb.BatchLocateRequest(sources=[ImageSource(image=MUNICH)] * 7)
    error = await refusal(stub(channel).BatchLocate(over, timeout=30))
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.BATCH_TOO_LARGE
    assert error.metadata == {"limit": "6", "items": "7"}


async def test_an_empty_batch_is_refused(channel: grpc.aio.Channel) -> None:
    error = await refusal(stub(channel).BatchLocate(pb.BatchLocateRequest(), timeout=30))
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.BATCH_EMPTY


async def test_the_deployment_describes_itself(channel: grpc.aio.Channel, backend: Backend) -> None:
    info = await stub(channel).GetServiceInfo(pb.GetServiceInfoRequest(), timeout=30)
    assert info.model_version == backend.bundle.version
    assert info.gallery_version == backend.bundle.gallery_version
    assert info.feature_dim == FEATURE_DIM != EMBEDDING_DIM
    assert info.calibration_status == pb.CALIBRATION_STATUS_CALIBRATED
    assert info.limits.max_batch == 6
    assert info.limits.max_image_bytes == 20 * 1024 * 1024
    assert info.limits.default_deadline_ms == 10_000
    assert info.limits.max_deadline_ms == 60_000


async def test_the_same_question_again_is_answered_from_the_cache(channel: grpc.aio.Channel) -> None:
    first, second = await locate(channel, MUNICH), await locate(channel, MUNICH)
    assert (first.cached, second.cached) == (False, True)
    assert same_but_for_the_time(first, second)
    assert second.timing.classify_ms == first.timing.classify_ms
    assert 0 < second.timing.cache_ms <= second.timing.total_ms


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": pb.STRATEGY_SWC},
        {"radius_probabilities": [0.5, 0.8]},
        {"radius_probabilities": [0.9, 0.5]},
        {"max_neighbors": 19},
        {"max_cells": 4},
        {"max_alternatives": 4},
    ],
)
async def test_other_options_are_another_question(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
    await locate(channel, MUNICH)
    fresh = await locate(channel, MUNICH, **options, bypass_cache=True)
    answer = await locate(channel, MUNICH, **options)
    assert not answer.cached
    assert same_but_for_the_time(answer, fresh)


async def test_defaults_spelled_out_are_the_same_question(channel: grpc.aio.Channel) -> None:
    await locate(channel, MUNICH)
    spelled = {"strategy": pb.STRATEGY_POSTERIOR, "radius_probabilities": [0.5, 0.9], "max_cells": 5}
    assert (await locate(channel, MUNICH, **spelled)).cached


async def test_other_bytes_are_another_question(channel: grpc.aio.Channel) -> None:
    await locate(channel, MUNICH)
    assert not (await locate(channel, MUNICH + b"\0")).cached
    assert not (await locate(channel, image_of(48.1, 11.6, "JPEG"))).cached


async def test_bypassing_the_cache_neither_reads_nor_writes(channel: grpc.aio.Channel, backend: Backend) -> None:
    assert not (await locate(channel, MUNICH, bypass_cache=True)).cached
    with redis.Redis.from_url(backend.valkey.url) as connection:
        assert connection.dbsize() == 0
    assert not (await locate(channel, MUNICH)).cached
    assert (await locate(channel, MUNICH)).cached
    assert not (await locate(channel, MUNICH, bypass_cache=True)).cached


async def test_a_batch_shares_the_cache(channel: grpc.aio.Channel) -> None:
    await locate(channel, MUNICH)
    batch = pb.BatchLocateRequest(sources=[ImageSource(image=SYDNEY), ImageSource(image=MUNICH)])
    response = await stub(channel).BatchLocate(batch, timeout=30)
    assert [result.response.cached for result in response.results] == [False, True]
    assert (await locate(channel, SYDNEY)).cached


async def test_refusals_are_not_cached(channel: grpc.aio.Channel, backend: Backend) -> None:
    await error_of(channel, request_of(b"no image"))
    with redis.Redis.from_url(backend.valkey.url) as connection:
        assert connection.dbsize() == 0


async def test_answers_live_as_long_as_they_were_given(backend: Backend) -> None:
    async with backend.gateway(cache_ttl_s=7) as channel:
        await locate(channel, MUNICH)
    with redis.Redis.from_url(backend.valkey.url, decode_responses=True) as connection:
        (key,) = connection.scan_iter("*")
        assert key.startswith("geofix:answer:")
        assert 0 < connection.ttl(key) <= 7


@pytest.mark.parametrize("damage", [b"", b"OK", b"\xff" * 40])
async def test_a_damaged_entry_is_a_miss(channel: grpc.aio.Channel, backend: Backend, damage: bytes) -> None:
    expected = await locate(channel, MUNICH)
    with redis.Redis.from_url(backend.valkey.url) as connection:
        (key,) = connection.scan_iter("*")
        connection.set(key, damage)
    answer = await locate(channel, MUNICH)
    assert not answer.cached
    assert same_but_for_the_time(answer, expected)
    assert (await locate(channel, MUNICH)).cached


async def test_the_density_comes_where_it_is_asked_for(channel: grpc.aio.Channel) -> None:
    source = ImageSource(image=image_of(12.0, 34.0))
    plain = await stub(channel).Locate(pb.LocateRequest(source=source))
    asked = pb.LocateRequest(source=source, options=pb.LocateOptions(max_density_cells=32))
    dense = await stub(channel).Locate(asked)
    assert not plain.density
    assert 6 <= len(dense.density) <= 32
    assert sum(cell.probability for cell in dense.density) == pytest.approx(1)
    assert dense.location == plain.location
    refused = await error_of(channel, pb.LocateRequest(source=source, options=pb.LocateOptions(max_density_cells=257)))
    assert refused.metadata["option"] == "max_density_cells"
