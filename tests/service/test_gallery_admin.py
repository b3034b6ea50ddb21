"""GalleryAdminService over real sockets: a version from empty to live through services, and what searches see of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from bundle_factory import EMBEDDING_DIM, make_bundle
from geofix.bundle import Bundle
from geofix.errors import GeofixError, InvalidInput, MismatchError, NotFound, Reason
from geofix.gallery.backup import back_up, restore
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.loader import load_bundle_gallery
from geofix.gallery.remote import RemoteAdmin
from geofix.gallery.rows import ImageRow
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder, AddOptions
from geofix.ingest.embed import LocalNetworks, Services
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from geofix.platform.child import Child, Spec
from geofix.platform.ports import HOST, free_ports
from geofix.platform.probe import Probe
from geofix.v1 import gallery_admin_service_pb2 as admin_pb
from geofix.v1 import gallery_admin_service_pb2_grpc as admin_rpc
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import Circle, SearchArea
from geofix.vectors import pack_vector
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from geofix_embedder.service import EmbedderService
from geofix_embedder.settings import EmbedderSettings
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings
from own_images import write_features, write_images
from running import LISTEN, running

IMAGES = 60
SECONDS = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


def a_free_address() -> str:
    return f"{HOST}:{free_ports(1)[0]}"


@contextlib.asynccontextmanager
async def served(bundle: Bundle, directory: Path) -> AsyncIterator[tuple[rpc.RetrievalServiceAsyncStub, RemoteAdmin]]:
    """Retrieval on Milvus Lite with the bundle's gallery live, and its administration."""
    uri = str(directory / "milvus.db")
    await asyncio.to_thread(load_bundle_gallery, bundle, uri)
    settings = RetrievalSettings(listen=LISTEN, bundle=bundle.directory, milvus_uri=uri, admin_listen=a_free_address())
    service = RetrievalService(settings)
    ((beside, administration),) = service.beside()
    async with running(service, settings) as channel, running(administration, beside):
        admin = RemoteAdmin(beside.listen)
        yield rpc.RetrievalServiceStub(channel), admin
        admin.close()


def a_query(**more: object) -> pb.SearchQuery:
    vector = np.random.default_rng(0).normal(size=EMBEDDING_DIM).astype(np.float32)
    return pb.SearchQuery(embedding=pack_vector(vector / np.linalg.norm(vector)), **more)  # type: ignore[arg-type]


async def refused(work: Callable[[], object]) -> GeofixError:
    with pytest.raises(GeofixError) as caught:
        await asyncio.to_thread(work)
    return caught.value


async def test_a_version_from_empty_to_live_through_services(bundle: Bundle, table: Path, tmp_path: Path) -> None:
    classifying = ClassifierSettings(listen=a_free_address(), bundle=bundle.directory)
    embedding = EmbedderSettings(listen=a_free_address(), bundle=bundle.directory)
    async with (
        served(bundle, tmp_path) as (retrieval, admin),
        running(ClassifierService(classifying), classifying),
        running(EmbedderService(embedding), embedding),
    ):
        made = await asyncio.to_thread(lambda: admin.create("mine", IMAGES, thumbnails=True))
        services = Services(bundle, classifying.listen, embedding.listen)
        adder = Adder(admin, bundle, services, AddOptions(patience_s=1.0))
        report = await asyncio.to_thread(adder.run, made.name, Source(table))
        assert (report.added, dict(report.skipped)) == (IMAGES, {})
        again = await asyncio.to_thread(Adder(admin, bundle, services).run, made.name, Source(table))
        assert (again.added, again.already_there) == (0, IMAGES)
        sealed = await asyncio.to_thread(verify, admin, made.name, bundle)
        assert (sealed.images + sealed.set_aside, sealed.unfinished) == (IMAGES, ())
        live = await asyncio.to_thread(admin.promote, made.name, "")
        infos, name = await asyncio.to_thread(admin.versions)
        assert (live.images, name, [each.name for each in infos]) == (
            IMAGES,
            live.name,
            [bundle.gallery_version, live.name],
        )

        info = await retrieval.GetGalleryInfo(pb.GetGalleryInfoRequest(count_cell_ids=range(len(bundle.cells))))
        assert (info.gallery_version, info.images, info.thumbnails) == (live.name, IMAGES, True)
        assert sum(count.images for count in info.cell_counts) == IMAGES  # every row is reachable through some cell

        everything = await retrieval.Search(pb.SearchRequest(queries=[a_query(k=1000)]))
        found = everything.results[0].neighbors
        assert len(found) == IMAGES
        for neighbor in found:
            assert (
                neighbor.cell_id == bundle.cells.assign([neighbor.location.latitude], [neighbor.location.longitude])[0]
            )
            assert neighbor.fields["licence"] == "CC0"
        ids = [neighbor.id for neighbor in found][:5]
        pictures = await retrieval.GetThumbnails(pb.GetThumbnailsRequest(ids=[*ids, "absent"]))
        assert [each.id for each in pictures.thumbnails] == ids
        assert Image.open(io.BytesIO(pictures.thumbnails[0].jpeg)).format == "JPEG"
        mine = await asyncio.to_thread(admin.find, live.name, ids)
        assert mine.keys() == set(ids)

        middle = found[10]
        circle = Circle(center=middle.location, radius_m=3_000_000)
        least = found[30].similarity
        title = middle.fields["title"]
        narrowed = await retrieval.Search(
            pb.SearchRequest(
                queries=[
                    a_query(k=1000, min_similarity=least),
                    a_query(k=1000, area=SearchArea(circle=circle)),
                    a_query(k=1000, fields=[pb.FieldMatch(name="title", values=[title, "another"])]),
                    a_query(k=1000, cell_ids=[middle.cell_id]),
                ]
            )
        )
        similar, near, titled, in_cell = ([n.id for n in result.neighbors] for result in narrowed.results)
        assert similar == [n.id for n in found if n.similarity >= least]
        assert middle.id in near
        assert 1 <= len(near) < IMAGES
        assert titled == [middle.id]
        assert in_cell == [n.id for n in found if n.cell_id == middle.cell_id]

        kept = await asyncio.to_thread(back_up, admin, live, tmp_path / "live.geofix")
        await asyncio.to_thread(admin.rollback)
        await asyncio.to_thread(lambda: admin.delete(live.name, force=True))
        restored = await asyncio.to_thread(restore, admin, bundle, kept.path)
        assert dataclasses.replace(restored, retired="") == live
        assert (await asyncio.to_thread(admin.promote, live.name, "")).name == live.name
        assert await retrieval.GetThumbnails(pb.GetThumbnailsRequest(ids=[*ids, "absent"])) == pictures

        error = await refused(lambda: admin.begin_add(live.name, "again"))
        assert isinstance(error, MismatchError)
        assert error.reason is Reason.GALLERY_IN_USE
        error = await refused(lambda: admin.begin_add("gallery_tiny_absent_00000000", "again"))
        assert isinstance(error, NotFound)
        assert error.reason is Reason.GALLERY_NOT_FOUND
        other = await asyncio.to_thread(admin.create, "other", 10)
        await asyncio.to_thread(admin.begin_add, other.name, "job")
        wrong = ImageRow("x", 1.0, 2.0, 0, np.ones(EMBEDDING_DIM, np.float32))
        error = await refused(lambda: admin.insert(other.name, [wrong]))
        assert isinstance(error, InvalidInput)
        assert error.reason is Reason.EMBEDDING_INVALID


async def test_who_searches_cannot_administer(bundle: Bundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    await asyncio.to_thread(load_bundle_gallery, bundle, uri)
    settings = RetrievalSettings(listen=LISTEN, bundle=bundle.directory, milvus_uri=uri, admin_listen=a_free_address())
    async with running(RetrievalService(settings), settings) as searching:
        stub = admin_rpc.GalleryAdminServiceStub(searching)
        for call in (
            stub.ListVersions(admin_pb.ListVersionsRequest()),
            stub.DeleteVersion(admin_pb.DeleteVersionRequest()),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_searches_see_the_old_or_the_new_version_and_never_a_mixture(bundle: Bundle, tmp_path: Path) -> None:
    source = write_features(tmp_path / "features.parquet", bundle, 200)
    async with served(bundle, tmp_path) as (retrieval, admin):
        old = bundle.gallery_version
        made = await asyncio.to_thread(admin.create, "new", 200)
        await asyncio.to_thread(Adder(admin, bundle, LocalNetworks(bundle)).run, made.name, Source(source))
        await asyncio.to_thread(verify, admin, made.name, bundle)
        seen: list[str] = []
        ended = asyncio.Event()

        async def search() -> None:
            while not ended.is_set():
                answer = await retrieval.Search(pb.SearchRequest(queries=[a_query(k=50)] * 3), timeout=20)
                seen.append(answer.gallery_version)
                mine = answer.gallery_version == made.name
                for result in answer.results:
                    assert len(result.neighbors) == 50
                    assert all(neighbor.id.startswith("f0") is mine for neighbor in result.neighbors)

        searching = [asyncio.create_task(search()) for _ in range(3)]
        for turn in range(6):
            await asyncio.to_thread(admin.promote, old if turn % 2 else made.name, "")
            await asyncio.sleep(0.2)
        ended.set()
        await asyncio.gather(*searching)
        assert set(seen) == {old, made.name}
        assert seen.count(old) > 5
        assert seen.count(made.name) > 5


class Retrieval:
    """A retrieval service in a process of its own, with its administration; `kill` and `start` again are on the same ports."""

    def __init__(self, bundle: Bundle, uri: str, directory: Path) -> None:
        address, self.admin = (f"{HOST}:{port}" for port in free_ports(2))
        settings = {"GEOFIX_BUNDLE": str(bundle.directory), "GEOFIX_MILVUS_URI": uri, "GEOFIX_LISTEN": address}
        environment = {"PATH": os.environ["PATH"], **settings, "GEOFIX_ADMIN_LISTEN": self.admin}
        command = (sys.executable, "-m", "geofix_retrieval")
        spec = Spec("retrieval", command, environment, address, "geofix.v1.RetrievalService")
        self._child, self._probe = Child(spec, directory / "retrieval.log"), Probe(spec)

    def start(self) -> None:
        self._child.start(first=False)
        end = time.monotonic() + SECONDS
        while not self._probe.ready():
            assert time.monotonic() < end, self._child.last_lines()
            time.sleep(0.05)

    def kill(self) -> None:
        self._child.kill()


@pytest.fixture
def retrieval(bundle: Bundle, tmp_path: Path) -> Iterator[Retrieval]:
    uri = str(tmp_path / "milvus.db")
    load_bundle_gallery(bundle, uri)
    process = Retrieval(bundle, uri, tmp_path)
    process.start()
    yield process
    process.kill()


def test_retrieval_killed_in_the_middle_of_add_loses_nothing(
    bundle: Bundle, retrieval: Retrieval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.ingest.writer.ROWS_TOGETHER", 25)
    monkeypatch.setattr("geofix.ingest.writer.MOST_HELD", 50)
    source = write_features(tmp_path / "features.parquet", bundle, 2_000)
    admin = RemoteAdmin(retrieval.admin)
    made = admin.create("mine", 2_000)
    acknowledged = threading.Semaphore(0)
    said: list[str] = []
    reports: list[Report] = []

    def add() -> None:
        adder = Adder(admin, bundle, LocalNetworks(bundle), AddOptions(patience_s=SECONDS), said.append, progress)
        reports.append(adder.run(made.name, Source(source)))

    def progress(report: Report) -> None:
        acknowledged.release()

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(2):
        for _ in range(3):
            assert acknowledged.acquire(timeout=SECONDS)
        retrieval.kill()
        time.sleep(0.3)
        retrieval.start()
    thread.join(SECONDS)
    assert len(said) >= 1
    assert reports[0].added + reports[0].already_there == 2_000
    sealed = verify(admin, made.name, bundle)
    assert sealed.images + sealed.set_aside == 2_000
    assert admin.versions()[1] == bundle.gallery_version  # nothing half-filled was promoted

    ended: list[GalleryInfo | GeofixError] = []

    def promote() -> None:
        try:
            ended.append(admin.promote(made.name, ""))
        except GeofixError as error:
            ended.append(error)

    thread = threading.Thread(target=promote)
    thread.start()
    while not ended and admin.versions()[0][-1].state is not State.JOINING:
        time.sleep(0.01)
    retrieval.kill()
    thread.join(SECONDS)
    retrieval.start()
    assert admin.versions()[1] in (bundle.gallery_version, made.name)
    promoted = admin.promote(made.name, "")
    assert (promoted.images, admin.versions()[1]) == (2_000, made.name)
    assert verify(admin, made.name, bundle).images == 2_000
    assert admin.rollback(made.name).name == admin.rollback(made.name).name == bundle.gallery_version
    error = outcome_of(lambda: admin.rollback("gallery_tiny_absent_00000000"))
    assert isinstance(error, NotFound)
    admin.close()


def outcome_of(work: Callable[[], object]) -> object:
    try:
        return work()
    except GeofixError as error:
        return error
