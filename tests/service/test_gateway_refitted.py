"""The radii that were fitted on a gallery's own images reach an answer; where they were too few, none does."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import grpc
import pytest

from backends import HOST, Backend, locate, serving
from bundle_factory import image_of
from geofix.calibration import LEAST_QUERIES, Calibration
from geofix.decision import Strategy, decide, plan
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.refit import neighbors_of, refit
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from geofix.platform.ports import free_ports
from geofix.v1 import geolocation_service_pb2 as pb
from own_images import write_features
from stores import milvus_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

MUNICH = image_of(48.1, 11.6)
ENOUGH, FEW = 700, 100


async def test_radii_of_a_promoted_version_reach_an_answer(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.rows.SET_ASIDE_SHARE", 0.8)  # so that 500 need not be a twentieth
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)  # each costs a wait of its own
    bundle, rule = backend.bundle, backend.bundle.manifest.decision
    address = f"{HOST}:{free_ports(1)[0]}"
    with milvus_server(shutil.copytree(backend.spare_milvus, tmp_path / "milvus.db"), 0) as uri:
        admin = DirectAdmin(Store(uri), bundle)
        async with (
            serving("retrieval", bundle, address, uri),
            backend.gateway(retrieval_addr=address) as channel,
        ):
            own = await answer_of(channel, bundle.gallery_version)
            enough, fitted = await asyncio.to_thread(promote, admin, backend, tmp_path, ENOUGH)
            assert fitted is not None
            assert fitted.queries >= LEAST_QUERIES
            heads = backend.engine.heads(backend.engine.feature(MUNICH)[None])[0]
            search = plan(rule, Strategy.POSTERIOR, heads.cells)
            hits = await asyncio.to_thread(admin.search, enough, [(heads.embedding, search.cells, search.k)])
            signals = decide(rule, Strategy.POSTERIOR, heads.cells, neighbors_of(hits[0])).signals
            answer = await answer_of(channel, enough)
            assert answer.calibration_status == pb.CALIBRATION_STATUS_CALIBRATED
            assert [radius.probability for radius in answer.radii] == [radius.probability for radius in own.radii]
            for radius, before in zip(answer.radii, own.radii, strict=True):
                km = fitted.radius_km(signals, radius.probability)
                assert radius.radius_m == pytest.approx(1000 * (km or 0.0), rel=1e-3)
                assert radius.radius_m != pytest.approx(before.radius_m, rel=0.05)

            few, fitted = await asyncio.to_thread(promote, admin, backend, tmp_path, FEW)
            assert fitted is None
            answer = await answer_of(channel, few)
            assert answer.localizable
            assert answer.calibration_status == pb.CALIBRATION_STATUS_UNCALIBRATED
            assert not answer.radii
        admin.close()


def promote(admin: DirectAdmin, backend: Backend, directory: Path, images: int) -> tuple[str, Calibration | None]:
    """A version of so many images, live; its name, and what its radii were fitted to."""
    networks = LocalNetworks(backend.bundle)
    name = admin.create(f"mine{images}", images).name
    source = write_features(directory / f"{images}.parquet", backend.bundle, images)
    Adder(admin, backend.bundle, networks).run(name, Source(source))
    fitted = refit(admin, verify(admin, name, backend.bundle), backend.bundle, networks)
    admin.promote(name, fitted.model_dump_json() if fitted is not None else "")
    return name, fitted


async def answer_of(channel: grpc.aio.Channel, version: str) -> pb.LocateResponse:
    """The answer for Munich, once it is of that version."""
    async with asyncio.timeout(30):
        while (answer := await locate(channel, MUNICH)).gallery_version != version:
            await asyncio.sleep(0.05)
    return answer
