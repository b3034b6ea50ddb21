"""The gateway over a real socket while another version of the gallery is promoted, and when one is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from backends import (
    MUNICH,
    SYDNEY,
    Backend,
    first_answer,
    free_address,
    held_classifier,
    locate,
    locate_or_error,
    serving,
    stub,
    until,
)
from geofix.errors import NotFound, Reason
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1.types_pb2 import ImageSource
from stores import drop, milvus_server, promote_a_copy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]


@contextlib.asynccontextmanager
async def retrieval_of_its_own(backend: Backend, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The addresses of a retrieval service and of the Milvus under it, to which a test may do anything."""
    address = free_address()
    milvus = shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db")
    with milvus_server(milvus, 0) as uri:
        async with serving("retrieval", backend.bundle, address, uri):
            yield address, uri


async def sees(channel: grpc.aio.Channel, newer: str) -> bool:
    """Whether the gateway knows that the version is live, which has no calibration."""
    info = await stub(channel).GetServiceInfo(pb.GetServiceInfoRequest(), timeout=30)
    uncalibrated = info.calibration_status == pb.CALIBRATION_STATUS_UNCALIBRATED
    assert uncalibrated is (info.gallery_version == newer)
    return bool(info.gallery_version == newer)


async def test_a_promoted_gallery_answers_without_the_calibration_of_the_first(
    backend: Backend, tmp_path: Path
) -> None:
    async with (
        retrieval_of_its_own(backend, tmp_path) as (address, uri),
        backend.gateway(retrieval_addr=address) as channel,
    ):
        before = await locate(channel, MUNICH)
        assert before.gallery_version == backend.bundle.gallery_version
        newer = await asyncio.to_thread(promote_a_copy, backend.bundle, uri)
        await until(lambda: sees(channel, newer))
        answer = await locate(channel, MUNICH)
        assert not answer.cached  # the cache holds an answer of the other version
        assert answer.gallery_version == newer
        assert answer.location == before.location
        assert answer.localizable
        assert answer.calibration_status == pb.CALIBRATION_STATUS_UNCALIBRATED
        assert not answer.radii
        assert (await locate(channel, MUNICH)).cached


async def test_a_batch_is_answered_from_one_gallery_also_while_another_is_promoted(
    backend: Backend, tmp_path: Path
) -> None:
    async with (
        retrieval_of_its_own(backend, tmp_path) as (address, uri),
        held_classifier(backend.bundle) as (classifier, held),
        backend.gateway(retrieval_addr=address, classifier_addr=classifier, batch_concurrency=1) as channel,
    ):
        options = pb.LocateOptions(bypass_cache=True)
        sources = [ImageSource(image=image) for image in (MUNICH, SYDNEY)]
        batch = stub(channel).BatchLocate(pb.BatchLocateRequest(sources=sources, options=options), timeout=60)
        await held.until_inside(1)  # the second image is begun after the first is answered
        newer = await asyncio.to_thread(promote_a_copy, backend.bundle, uri)
        await until(lambda: sees(channel, newer))
        held.gate.set()
        versions = [result.response.gallery_version for result in (await batch).results]
        assert versions == [backend.bundle.gallery_version] * 2
        assert (await locate(channel, MUNICH)).gallery_version == newer


async def test_a_version_that_was_dropped_is_not_found_until_the_next_look(backend: Backend, tmp_path: Path) -> None:
    async with (
        retrieval_of_its_own(backend, tmp_path) as (address, uri),
        backend.gateway(retrieval_addr=address, gallery_poll_s=3600) as slow,
        backend.gateway(retrieval_addr=address) as quick,
    ):
        await asyncio.to_thread(promote_a_copy, backend.bundle, uri)
        await asyncio.to_thread(drop, uri, backend.bundle.gallery_version)
        end, error = time.monotonic() + 30, None
        while not isinstance(error, NotFound):
            assert time.monotonic() < end, error
            error = await locate_or_error(slow, MUNICH, bypass_cache=True)
        assert error.reason is Reason.GALLERY_NOT_FOUND
        assert error.metadata["gallery_version"] == backend.bundle.gallery_version
        answer = await first_answer(quick)
        while isinstance(answer, NotFound):  # its last look may be older than the drop, by its poll's pause
            assert time.monotonic() < end, answer.message
            await asyncio.sleep(0.05)
            answer = await first_answer(quick)
        assert isinstance(answer, pb.LocateResponse)
        assert answer.gallery_version != backend.bundle.gallery_version
