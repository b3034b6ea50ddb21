"""A gallery of one's own images on Milvus Lite, for the tests of a module; those that need another define their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.ingest.add import Adder, AddOptions
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from own_images import IMAGES, Adding, write_images


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def networks(bundle: Bundle) -> LocalNetworks:
    return LocalNetworks(bundle)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def admin(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectAdmin]:
    access = DirectAdmin(Store(str(tmp_path_factory.mktemp("lite") / "milvus.db"), create=True), bundle)
    yield access
    access.close()


@pytest.fixture
def add(admin: DirectAdmin, bundle: Bundle, networks: LocalNetworks) -> Adding:
    def run(version: str, path: Path, **options: object) -> Report:
        chosen = AddOptions(patience_s=1.0, **options)  # type: ignore[arg-type]
        return Adder(admin, bundle, networks, chosen).run(version, Source(path))

    return run
