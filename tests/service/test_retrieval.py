"""Retrieval over a real socket, on a real Milvus Lite: as a directory of its own, and as a server that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray

from bundle_factory import EMBEDDING_DIM, make_bundle
from geofix.bundle import Bundle
from geofix.errors import ConfigurationError, GeofixError, InvalidInput, MismatchError, NotFound, Reason, Unavailable
from geofix.gallery.loader import load_bundle_gallery
from geofix.local import ExactGallery
from geofix.platform.ports import free_ports
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix.vectors import pack_vector
from geofix.wire import error_from_rpc
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings
from running import LISTEN, refusal, running, state_of, until_state
from stores import drop, milvus_server, promote_a_copy

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAME = RetrievalService.full_name


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def lite(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lite") / "milvus.db"
    load_bundle_gallery(bundle, str(directory))
    return directory


def settings_for(bundle: Bundle, uri: Path | str, **more: Any) -> RetrievalSettings:
    return RetrievalSettings(listen=LISTEN, bundle=bundle.directory, milvus_uri=str(uri), **more)


@pytest.fixture
async def channel(bundle: Bundle, lite: Path) -> AsyncIterator[grpc.aio.Channel]:
    settings = settings_for(bundle, lite, max_batch=4)
    async with running(RetrievalService(settings), settings) as open_channel:
        yield open_channel


def a_query(seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=EMBEDDING_DIM).astype(np.float32)
    values /= np.linalg.norm(values)
    return values


def searching(*queries: pb.SearchQuery, version: str = "") -> pb.SearchRequest:
    return pb.SearchRequest(queries=queries, gallery_version=version)


async def test_a_batch_equals_the_exact_search(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    exact = ExactGallery(bundle)
    asked = [((3, 4, 5), 7), ((), 10), ((0,), 1000)]
    queries = [
        pb.SearchQuery(embedding=pack_vector(a_query(seed)), cell_ids=cells, k=k)
        for seed, (cells, k) in enumerate(asked)
    ]
    response = await rpc.RetrievalServiceStub(channel).Search(searching(*queries))
    assert response.gallery_version == bundle.gallery_version
    assert response.search_ms > 0
    for seed, (cells, k) in enumerate(asked):
        rows, neighbors = exact.search(a_query(seed), cells, k)
        found = response.results[seed].neighbors
        assert [n.id for n in found] == [exact.ids[row] for row in rows]
        np.testing.assert_allclose([n.similarity for n in found], neighbors.similarity, atol=1e-5)
        assert [n.cell_id for n in found] == neighbors.cell_id.tolist()
    first = response.results[0].neighbors[0]
    assert first.picture.startswith("crop:lat=")
    assert first.attribution == "synthetic"
    assert -90 <= first.location.latitude <= 90


async def test_k_of_0_means_10(channel: grpc.aio.Channel) -> None:
    query = pb.SearchQuery(embedding=pack_vector(a_query()))
    response = await rpc.RetrievalServiceStub(channel).Search(searching(query))
    assert len(response.results[0].neighbors) == 10


async def test_the_live_gallery_describes_itself(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    info = await rpc.RetrievalServiceStub(channel).GetGalleryInfo(pb.GetGalleryInfoRequest())
    assert (info.gallery_version, info.model_version) == (bundle.gallery_version, bundle.version)
    assert (info.images, info.embedding_dim, info.metric, info.partitions) == (500, EMBEDDING_DIM, "IP", 64)
    assert info.cells == len(set(ExactGallery(bundle).cell_id.tolist()))
    assert info.limits.max_batch == 4


UNIT = pack_vector(a_query())


@pytest.mark.parametrize(
    ("request_", "reason", "facts"),
    [
        (searching(), Reason.BATCH_EMPTY, {}),
        (searching(*[pb.SearchQuery(embedding=UNIT)] * 5), Reason.BATCH_TOO_LARGE, {"limit": "4", "items": "5"}),
        (searching(pb.SearchQuery(embedding=UNIT), pb.SearchQuery()), Reason.EMBEDDING_INVALID, {"index": "1"}),
        (searching(pb.SearchQuery(embedding=UNIT + b"\0")), Reason.EMBEDDING_INVALID, {"expected_bytes": "64"}),
        (searching(pb.SearchQuery(embedding=pack_vector(2 * a_query()))), Reason.EMBEDDING_INVALID, {}),
        (searching(pb.SearchQuery(embedding=pack_vector(np.full(16, np.nan)))), Reason.EMBEDDING_INVALID, {}),
        (searching(pb.SearchQuery(embedding=UNIT, k=1001)), Reason.OPTION_INVALID, {"option": "k"}),
        (searching(pb.SearchQuery(embedding=UNIT, k=-1)), Reason.OPTION_INVALID, {"option": "k"}),
        (searching(pb.SearchQuery(embedding=UNIT, cell_ids=[30])), Reason.OPTION_INVALID, {"option": "cell_ids"}),
        (searching(pb.SearchQuery(embedding=UNIT, cell_ids=[-1])), Reason.OPTION_INVALID, {"option": "cell_ids"}),
        (searching(pb.SearchQuery(embedding=UNIT, cell_ids=[1] * 1025)), Reason.OPTION_INVALID, {"option": "cell_ids"}),
    ],
)
async def test_what_is_out_of_range_is_refused(
    channel: grpc.aio.Channel, request_: pb.SearchRequest, reason: Reason, facts: dict[str, str]
) -> None:
    error = await refusal(rpc.RetrievalServiceStub(channel).Search(request_))
    assert isinstance(error, InvalidInput)
    assert error.reason is reason
    assert facts.items() <= error.metadata.items()


@pytest.mark.parametrize("version", ["gallery_tiny_0000000000000000", "gallery_other", "x"])
async def test_a_version_that_is_not_there_is_not_found(channel: grpc.aio.Channel, version: str) -> None:
    request = searching(pb.SearchQuery(embedding=UNIT), version=version)
    error = await refusal(rpc.RetrievalServiceStub(channel).Search(request))
    assert isinstance(error, NotFound)
    assert error.reason is Reason.GALLERY_NOT_FOUND
    assert error.metadata["gallery_version"] == version


async def ask(channel: grpc.aio.Channel, version: str = "") -> pb.SearchResponse | GeofixError:
    stub = rpc.RetrievalServiceStub(channel)
    try:
        request = searching(pb.SearchQuery(embedding=UNIT), version=version)
        answer = await stub.Search(request, timeout=10)
    except grpc.RpcError as error:
        return error_from_rpc(error, "retrieval")
    assert isinstance(answer, pb.SearchResponse)
    return answer


async def test_without_an_alias_it_is_not_ready_until_there_is_one(bundle: Bundle, tmp_path: Path) -> None:
    with milvus_server(tmp_path / "milvus", 0) as uri:
        settings = settings_for(bundle, uri)
        async with running(RetrievalService(settings), settings, ready=False) as channel:
            await asyncio.sleep(0.5)
            assert await state_of(channel, NAME) == NOT_SERVING
            error = await ask(channel)
            assert isinstance(error, Unavailable)
            assert error.reason is Reason.GALLERY_UNAVAILABLE
            await asyncio.to_thread(load_bundle_gallery, bundle, uri)
            await until_state(channel, NAME, SERVING)
            assert isinstance(await ask(channel), pb.SearchResponse)


async def test_a_gallery_of_another_bundle_is_refused_with_both_named(bundle: Bundle, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", seed=1)
    with milvus_server(tmp_path / "milvus", 0) as uri:
        load_bundle_gallery(other, uri)
        settings = settings_for(bundle, uri)
        async with running(RetrievalService(settings), settings, ready=False) as channel:
            await asyncio.sleep(0.5)
            assert await state_of(channel, NAME) == NOT_SERVING
            error = await ask(channel)
            assert isinstance(error, MismatchError)
            assert error.reason is Reason.GALLERY_MISMATCH
            assert error.metadata == {"model_version": bundle.version, "gallery_model_version": other.version}
            assert bundle.version in error.message
            assert other.version in error.message


async def test_an_outage_is_unavailable_and_ends_by_itself(bundle: Bundle, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with milvus_server(tmp_path / "milvus", port) as uri:
        load_bundle_gallery(bundle, uri)
        settings = settings_for(bundle, uri)
        service = RetrievalService(settings)
        opened = contextlib.AsyncExitStack()
        channel = await opened.enter_async_context(running(service, settings))
        assert isinstance(await ask(channel), pb.SearchResponse)
    async with opened:
        error = await ask(channel)
        assert isinstance(error, Unavailable)
        assert error.reason is Reason.GALLERY_UNAVAILABLE
        await until_state(channel, NAME, NOT_SERVING)
        assert isinstance(await ask(channel), Unavailable)
        with milvus_server(tmp_path / "milvus", port):
            await until_state(channel, NAME, SERVING)
            assert isinstance(await ask(channel), pb.SearchResponse)


async def test_promotion_moves_the_default_and_keeps_the_named_version(bundle: Bundle, tmp_path: Path) -> None:
    with milvus_server(tmp_path / "milvus", 0) as uri:
        load_bundle_gallery(bundle, uri)
        settings = settings_for(bundle, uri)
        async with running(RetrievalService(settings), settings) as channel:
            first = await ask(channel)
            assert isinstance(first, pb.SearchResponse)
            newer = await asyncio.to_thread(promote_a_copy, bundle, uri)
            seen = [await version_of(channel)]
            while seen[-1] != newer and len(seen) < 100:
                await asyncio.sleep(0.1)
                seen.append(await version_of(channel))
            assert set(seen) == {bundle.gallery_version, newer}
            old = await ask(channel, bundle.gallery_version)
            assert isinstance(old, pb.SearchResponse)
            assert old.results == first.results
            await asyncio.to_thread(drop, uri, bundle.gallery_version)
            gone = await ask(channel, bundle.gallery_version)
            while isinstance(gone, Unavailable):  # until the next look
                await asyncio.sleep(0.1)
                gone = await ask(channel, bundle.gallery_version)
            assert isinstance(gone, NotFound)


async def version_of(channel: grpc.aio.Channel) -> str:
    answer = await ask(channel)
    assert isinstance(answer, pb.SearchResponse)
    return answer.gallery_version


def test_a_uri_that_names_nothing_is_refused_at_once(bundle: Bundle, tmp_path: Path) -> None:
    for uri in (str(tmp_path / "typo"), "localhost:19530"):
        with pytest.raises(ConfigurationError, match="GEOFIX_MILVUS_URI"):
            RetrievalService(settings_for(bundle, uri))
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("missing", ["GEOFIX_MILVUS_URI", "GEOFIX_BUNDLE", "GEOFIX_LISTEN"])
def test_the_process_exits_2_and_names_the_setting(bundle: Bundle, lite: Path, missing: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GEOFIX_")}
    environment |= {
        "GEOFIX_MILVUS_URI": str(lite),
        "GEOFIX_BUNDLE": str(bundle.directory),
        "GEOFIX_LISTEN": LISTEN,
    }
    del environment[missing]
    command = [sys.executable, "-m", "geofix_retrieval"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert missing in done.stderr


async def test_the_bundle_needs_no_file_but_its_manifest(bundle: Bundle, lite: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes((bundle.directory / "bundle.json").read_bytes())
    settings = RetrievalSettings(listen=LISTEN, bundle=tmp_path, milvus_uri=str(lite))
    async with running(RetrievalService(settings), settings) as channel:
        assert isinstance(await ask(channel), pb.SearchResponse)
