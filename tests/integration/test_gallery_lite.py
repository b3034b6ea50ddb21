"""A bundle's gallery on a real Milvus Lite directory: loaded, repaired, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus.client.types import LoadState

from bundle_factory import EMBEDDING_DIM, make_bundle
from gallery_tables import assert_exact, rewritten, table_of, unit, with_gallery
from geofix import bundle as files
from geofix.bundle import Bundle
from geofix.errors import ConfigurationError, MismatchError, Reason, Unavailable
from geofix.gallery.layout import GalleryInfo, State, schema
from geofix.gallery.lite_workarounds import INDEXES
from geofix.gallery.loader import load_bundle_gallery
from geofix.gallery.search import Gallery, Scope
from geofix.gallery.store import Store
from geofix.local import ExactGallery


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def loaded(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    directory = tmp_path_factory.mktemp("lite") / "milvus.db"
    info = load_bundle_gallery(bundle, str(directory))
    with Store(str(directory)) as store:
        store.load(info.name)
        yield Gallery(store, info)


def test_a_hit_carries_what_the_file_says(loaded: Gallery, bundle: Bundle) -> None:
    row = pq.read_table(bundle.path(files.GALLERY)).slice(17, 1).to_pylist()[0]
    query = np.asarray(row["embedding"], np.float32)
    hit = loaded.search(query / np.linalg.norm(query), (row["cell_id"],), 1)[0]
    assert (hit.id, hit.cell_id, hit.lat, hit.lon) == (row["id"], row["cell_id"], row["lat"], row["lon"])
    assert (hit.picture, hit.attribution) == (row["picture"], row["attribution"])


def test_the_collection_says_what_it_holds(loaded: Gallery, bundle: Bundle) -> None:
    exact = ExactGallery(bundle)
    info = loaded.info
    assert (info.name, info.model_version) == (bundle.gallery_version, bundle.version)
    assert (info.images, info.cells) == (500, len(set(exact.cell_id.tolist())))
    assert (info.embedding_dim, info.partitions, info.state) == (EMBEDDING_DIM, 64, State.VERIFIED)
    assert info.calibration == bundle.path(files.CALIBRATION).read_text()
    assert GalleryInfo.from_properties(info.name, info.properties()) == info


def test_loading_again_does_nothing(bundle: Bundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    steps: list[tuple[int, int]] = []
    first = load_bundle_gallery(bundle, uri, lambda done, total: steps.append((done, total)))
    assert steps[0] == (0, 500)
    assert steps[-1] == (500, 500)
    steps.clear()
    assert load_bundle_gallery(bundle, uri, lambda done, total: steps.append((done, total))) == first
    assert steps == []


def test_a_new_version_takes_the_alias_and_the_old_stays(tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    old, new = (make_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    load_bundle_gallery(old, uri)
    load_bundle_gallery(new, uri)
    with Store(uri) as store:
        assert store.resolve(new.gallery_alias) == new.gallery_version
        assert store.describe(old.gallery_version) is not None


def test_the_same_gallery_in_a_changed_bundle_is_not_loaded_twice(tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    bundle = make_bundle(tmp_path / "bundle")
    load_bundle_gallery(bundle, uri)
    changed = rewritten(bundle, description="another")
    assert changed.version != bundle.version
    steps: list[int] = []
    info = load_bundle_gallery(changed, uri, lambda done, _total: steps.append(done))
    assert (info.name, info.model_version, steps) == (bundle.gallery_version, changed.version, [])
    with Store(uri) as store:
        assert store.describe(info.name) == info


def test_a_half_filled_collection_is_loaded_anew(bundle: Bundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    name = bundle.gallery_version
    info = GalleryInfo(name, bundle.version, 500, 29, EMBEDDING_DIM, 64)
    with Store(uri, create=True) as store:  # what a loader that died in the middle leaves
        store.client.create_collection(name, schema=schema(EMBEDDING_DIM), properties=info.properties())
        store.client.create_partition(name, "p0")
    assert load_bundle_gallery(bundle, uri).images == 500
    with Store(uri) as store:
        assert store.resolve(bundle.gallery_alias) == name
        store.load(name)
        assert store.count(name) == 500


def test_a_live_collection_that_lost_rows_is_loaded_anew(bundle: Bundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    info = load_bundle_gallery(bundle, uri)
    with Store(uri) as store:
        store.load(info.name)
        store.client.delete(info.name, filter="lat > 0")
    load_bundle_gallery(bundle, uri)
    with Store(uri) as store:
        store.load(info.name)
        assert store.count(info.name) == 500


_LOAD = """
import sys
from geofix.bundle import Bundle
from geofix.gallery.lite_workarounds import INDEXES
from geofix.gallery.loader import load_bundle_gallery
load_bundle_gallery(Bundle.load(sys.argv[1]), sys.argv[2], lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("rows", [0, 300, 500])
def test_killed_in_the_middle_the_next_load_repairs(bundle: Bundle, tmp_path: Path, rows: int) -> None:
    uri = str(tmp_path / "milvus.db")
    command = [sys.executable, "-c", _LOAD, str(bundle.directory), uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= rows:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert load_bundle_gallery(bundle, uri).images == 500
    with Store(uri) as store:
        assert store.resolve(bundle.gallery_alias) == bundle.gallery_version
        store.load(bundle.gallery_version)
        query = unit(np.random.default_rng(3), 1)[0]
        hits = Gallery(store, load_info(store, bundle)).search(query, (), 10)
        assert_exact(hits, ExactGallery(bundle), query, (), 10)


@pytest.mark.parametrize("end", [0, 40, 200, -1])
def test_an_index_that_was_cut_off_is_made_again(bundle: Bundle, tmp_path: Path, end: int) -> None:
    uri = tmp_path / "milvus.db"
    info = load_bundle_gallery(bundle, str(uri))
    exact = ExactGallery(bundle)
    with Store(str(uri)) as store:
        store.load(info.name)
    paths = sorted(uri.glob(INDEXES))
    whole = {path: path.read_bytes() for path in paths}
    assert len(paths) > 2
    for path in paths[1:]:
        path.write_bytes(whole[path][:end])
    with Store(str(uri)) as store:
        store.load(info.name)
        gallery = Gallery(store, info)
        query = unit(np.random.default_rng(1), 1)[0]
        assert_exact(gallery.search(query, (), 1000), exact, query, (), 1000)
    assert {path: path.read_bytes() for path in sorted(uri.glob(INDEXES))} == whole


def test_a_collection_that_many_ask_for_at_once_is_opened_once(bundle: Bundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "milvus.db")
    info = load_bundle_gallery(bundle, uri)
    with Store(uri) as store, ThreadPoolExecutor(8) as pool:
        assert store._lite is not None
        database, together = store._lite[1], threading.Barrier(8)

        def ask(_: int) -> object:
            together.wait()
            return database.get_collection(info.name)

        assert len(set(map(id, list(pool.map(ask, range(8)))))) == 1


def test_a_collection_that_is_let_go_while_it_is_loaded_is_loaded_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "milvus.db")
    info = load_bundle_gallery(bundle, uri)
    with Store(uri) as store:
        load, loads = store.client.load_collection, []

        def load_and_be_started_again(name: str, **options: Any) -> None:
            load(name, **options)
            loads.append(name)
            if len(loads) < 3:
                store.client.release_collection(name)

        monkeypatch.setattr(store.client, "load_collection", load_and_be_started_again)
        store.load(info.name)
        assert loads == 3 * [info.name]
        assert store.is_loaded(info.name)
        # Milvus has the call and never comes to its end; no call of its own is left to run into a time limit of nothing.
        monkeypatch.setattr(store.client, "load_collection", lambda _name, **_options: None)
        monkeypatch.setattr(store, "_load_state", lambda _name: LoadState.Loading)
        monkeypatch.setattr("geofix.gallery.store.LOAD_TIMEOUT_S", 0.0)
        with pytest.raises(Unavailable, match=r"did not load .* within 0 s") as refused:
            store.load(info.name)
        assert refused.value.reason == Reason.GALLERY_UNAVAILABLE


def load_info(store: Store, bundle: Bundle) -> GalleryInfo:
    info = store.describe(bundle.gallery_version)
    assert info is not None
    return info


async def test_a_version_that_is_gone_and_a_search_that_takes_too_long_are_unavailable(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = load_bundle_gallery(bundle, str(tmp_path / "milvus.db"))
    query = unit(np.random.default_rng(0), 1)[0]
    with Store(str(tmp_path / "milvus.db")) as store:
        gallery = Gallery(store, info)
        with pytest.raises(Unavailable) as released:  # it was not loaded
            gallery.search(query, (), 3)
        store.load(info.name)
        assert len(gallery.search(query, (), 3)) == 3
        with monkeypatch.context() as slow:
            slow.setattr(store.searches, "search", lambda _call, _timeout_s: time.sleep(0.3))
            with pytest.raises(Unavailable) as late:
                await gallery.search_batch([(query, Scope((), 3))], 0.05)
        store.client.drop_collection(info.name)
        with pytest.raises(Unavailable) as gone:
            await gallery.search_batch([(query, Scope((), 3))], 10.0)
    assert {caught.value.reason for caught in (released, late, gone)} == {Reason.GALLERY_UNAVAILABLE}


def test_a_locked_directory_says_so(bundle: Bundle, loaded: Gallery) -> None:
    with pytest.raises(Unavailable, match="open in another process") as caught:
        load_bundle_gallery(bundle, loaded._store.name)
    assert caught.value.reason is Reason.GALLERY_UNAVAILABLE


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GEOFIX_MILVUS_URI"):
        Store(str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_a_server_that_is_not_there_is_named_without_its_password(bundle: Bundle) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        load_bundle_gallery(bundle, "http://user:secret@127.0.0.1:1/?token=secret")  # pragma: allowlist secret
    assert caught.value.reason is Reason.GALLERY_UNAVAILABLE
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message
    assert time.monotonic() - started < 60  # without a time-out pymilvus tries for minutes


def damaged(table: pa.Table, what: str) -> pa.Table:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    match what:
        case "an id is repeated":
            columns["id"][1] = columns["id"][0]
        case "ids must have":
            columns["id"][1] = "é" * 40
        case "cells":
            columns["cell_id"][1] = 100
        case "unit vector":
            columns["embedding"][1] = [0.5] * EMBEDDING_DIM
        case "degrees":
            columns["lat"][1] = 90.5
        case "take more than":
            columns["picture"][1] = "x" * 5000
    return pa.table(columns, schema=table.schema)


@pytest.mark.parametrize(
    "what", ["an id is repeated", "ids must have", "cells", "unit vector", "degrees", "take more than"]
)
def test_a_row_that_cannot_be_right_is_refused(tmp_path: Path, what: str) -> None:
    rng = np.random.default_rng(0)
    table = table_of(unit(rng, 20).astype(np.float16), rng.integers(0, 100, 20))
    bundle = with_gallery(make_bundle(tmp_path / "bundle"), damaged(table, what))
    with pytest.raises(MismatchError, match=what) as caught:
        load_bundle_gallery(bundle, str(tmp_path / "milvus.db"))
    assert caught.value.reason is Reason.GALLERY_INVALID
    with Store(str(tmp_path / "milvus.db")) as store:
        assert store.resolve(bundle.gallery_alias) is None
