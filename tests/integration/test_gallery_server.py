"""The gallery on a real Milvus server that asks for TLS and a token, and is killed in the middle of `add`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusException

from bundle_factory import EMBEDDING_DIM, make_bundle
from certificates import Authority
from geofix.bundle import Bundle
from geofix.errors import ConfigurationError, GeofixError, Unavailable
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import MOST_PARTITIONS, State
from geofix.gallery.loader import make_live
from geofix.gallery.search import Scope
from geofix.gallery.settings import MilvusSettings
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder, AddOptions
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from geofix.ingest.writer import patiently
from geofix.tls import TlsFiles
from geofix_retrieval.live import LiveGallery
from milvus_server import MilvusServer, install, real_milvus
from own_images import write_features

IMAGES, SECONDS, AWAY_S = 800, 90.0, 60.0
ROOT = "root:Milvus"
"""The user and password that a Milvus begins with."""
PARTITIONS = 1024
"""That a collection may have by Milvus's default; this package's own configuration allows more."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"), name="killed")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return Authority().files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    install()
    settings = {"common.security.authorizationEnabled": "true", "rootCoord.maxPartitionNum": str(PARTITIONS)}
    with real_milvus(tmp_path_factory.mktemp("milvus"), settings, token=ROOT, tls=tls) as started:
        yield started


def settings_of(server: MilvusServer, directory: Path, token: str, ca: Path | None) -> MilvusSettings:
    (directory / "token").write_text(token + "\n")
    return MilvusSettings(milvus_uri=server.uri, milvus_token_file=directory / "token", milvus_ca_file=ca)


def test_tls_that_cannot_work_is_explained(
    server: MilvusServer, milvus: MilvusServer, tls: TlsFiles, tmp_path: Path
) -> None:
    stranger = Authority().files(tmp_path / "stranger")
    with pytest.raises(ConfigurationError, match=r"not one that .*ca.pem vouches for .*: check GEOFIX_MILVUS_CA_FILE"):
        settings_of(server, tmp_path, ROOT, stranger.ca).open_milvus()
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"text.pem holds no certificate in PEM form"):
        settings_of(server, tmp_path, ROOT, tmp_path / "text.pem").open_milvus()
    with pytest.raises(ConfigurationError, match="it asks for TLS: set GEOFIX_MILVUS_CA_FILE"):
        settings_of(server, tmp_path, ROOT, None).open_milvus()
    with pytest.raises(ConfigurationError, match="it does not speak TLS"):
        settings_of(milvus, tmp_path, ROOT, tls.ca).open_milvus()
    with pytest.raises(ConfigurationError, match=r"GEOFIX_MILVUS_CA_FILE: .*absent.pem cannot be read"):
        settings_of(server, tmp_path, ROOT, tmp_path / "absent.pem").open_milvus()


def test_add_waits_for_a_server_that_was_killed_and_nothing_is_lost(
    bundle: Bundle, server: MilvusServer, tls: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)  # each costs a wait of its own
    monkeypatch.setattr("geofix.ingest.writer.ROWS_TOGETHER", 25)
    monkeypatch.setattr("geofix.ingest.writer.MOST_HELD", 50)
    settings = settings_of(server, tmp_path, ROOT, tls.ca)
    with pytest.raises((Unavailable, ConfigurationError)):
        settings_of(server, tmp_path, "root:wrong", tls.ca).open_milvus()
    settings_of(server, tmp_path, ROOT, tls.ca)
    admin = DirectAdmin(settings.open_milvus(), bundle)
    old = make_live(admin, bundle)
    made = admin.create("mine", IMAGES)
    source = Source(write_features(tmp_path / "features.parquet", bundle, IMAGES))
    acknowledged = threading.Semaphore(0)
    said: list[str] = []
    ended: list[Report | GeofixError] = []

    def add() -> None:
        progress = lambda _report: acknowledged.release()  # noqa: E731
        adder = Adder(
            admin, bundle, LocalNetworks(bundle), AddOptions(patience_s=2 * AWAY_S + SECONDS), said.append, progress
        )
        try:
            ended.append(adder.run(made.name, source))
        except GeofixError as error:
            ended.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(10):
        assert acknowledged.acquire(timeout=SECONDS)
    server.kill()
    time.sleep(AWAY_S)
    assert thread.is_alive()
    server.start()
    thread.join(SECONDS)
    (report,) = ended
    assert isinstance(report, Report), report
    assert any(line.startswith("waiting: ") for line in said)
    assert report.added + report.already_there == IMAGES  # it waited, and went on
    assert admin.live() == old.name

    sealed = verify(admin, made.name, bundle)
    assert sealed.images + sealed.set_aside == IMAGES

    with monkeypatch.context() as dying:  # in the middle of a promotion, when those that were set aside have joined
        flush = admin.store.client.flush

        def die(*arguments: Any, **more: Any) -> None:
            assert admin.get(made.name).state is State.JOINING
            server.kill()
            flush(*arguments, **more)

        dying.setattr(admin.store.client, "flush", die)
        with pytest.raises(Unavailable):
            admin.promote(made.name, "")
    server.start()
    assert patiently(admin.live, SECONDS, said.append) == old.name
    assert (
        patiently(lambda: admin.get(made.name), SECONDS, said.append).state is State.JOINING
    )  # what was written down last
    promoted = patiently(lambda: admin.promote(made.name, ""), SECONDS, said.append)
    assert (promoted.images, promoted.joined, admin.live()) == (IMAGES, True, made.name)
    assert verify(admin, made.name, bundle).images == IMAGES
    admin.close()


def test_the_largest_version_fits_a_server_as_it_comes(
    server: MilvusServer, bundle: Bundle, tls: TlsFiles, tmp_path: Path
) -> None:
    with settings_of(server, tmp_path, ROOT, tls.ca).open_milvus() as store:
        admin = DirectAdmin(store, bundle)
        made = admin.create("largest", 10_000_000)
        assert made.partitions == MOST_PARTITIONS
        assert not store.lite  # though its version is 2.3.5-lite
        assert len(store.client.list_partitions(made.name)) == MOST_PARTITIONS + 1 == PARTITIONS
        with pytest.raises(MilvusException, match="partition"):
            store.client.create_partition(made.name, "beyond")
        admin.delete(made.name)


async def test_a_token_that_changes_is_read_again(
    server: MilvusServer, tls: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)
    monkeypatch.setattr("geofix.watched.LOOK_EVERY_S", 0.0)
    bundle = make_bundle(tmp_path / "bundle", name="rotated")
    settings = settings_of(server, tmp_path, ROOT, tls.ca)
    with settings.open_milvus() as operator:
        make_live(DirectAdmin(operator, bundle), bundle)
        live = LiveGallery(bundle, settings)
        before = await asyncio.to_thread(live.refresh)
        query = np.eye(1, EMBEDDING_DIM, dtype=np.float32)[0], Scope((), 3)

        (tmp_path / "token").write_text("root:not yet\n")
        assert await asyncio.to_thread(live.refresh) is before, "what works is kept until the new token is taken"
        operator.client.update_password("root", "Milvus", "Changed.1", reset_connection=False)
        (tmp_path / "token").write_text("root:Changed.1\n")
        try:
            after = await asyncio.to_thread(live.refresh)
            assert after is not before
            assert len((await after.search_batch([query], 10.0))[0]) == 3
            with pytest.raises(Unavailable):  # Milvus knows the old token no more
                await before.search_batch([query], 10.0)
        finally:
            with settings.open_milvus() as again:
                again.client.update_password("root", "Changed.1", "Milvus", reset_connection=False)
            await live.close_searches()
            await asyncio.to_thread(live.close)
