"""Search is exact on every Milvus: on Milvus Lite and on a real server, against numpy, for tiny, hot and empty cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle_factory import EMBEDDING_DIM, make_bundle
from gallery_tables import assert_exact, unit
from geofix import bundle as files
from geofix.bundle import Bundle, write_manifest
from geofix.gallery.loader import load_bundle_gallery
from geofix.gallery.search import Gallery
from geofix.gallery.store import Store
from geofix.local import ExactGallery

HOT, TINY, EMPTY, SAME_PARTITION = 7, 3, 11, 71
"""Cells of the gallery; 71 shares its partition with 7. The hot one is over the size at which a server builds interim indexes."""


def gallery_table() -> pa.Table:
    rng = np.random.default_rng(5)
    few = rng.choice([12, 13, 14], size=700)
    cells = np.concatenate([np.full(20_000, HOT), np.full(2, TINY), np.full(300, SAME_PARTITION), few])
    rng.shuffle(cells)
    embedding = unit(rng, len(cells)).astype(np.float16)
    rows = len(cells)
    xyz = rng.normal(size=(rows, 3))
    return pa.table(
        {
            "id": [f"{row * 7919 % 100_003:08x}" for row in range(rows)],
            "lat": np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))),
            "lon": np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])),
            "cell_id": pa.array(cells, pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel(), pa.float16()), EMBEDDING_DIM),
            "picture": [f"https://example.org/{row}.jpg" for row in range(rows)],
            "attribution": [None] * rows,
        }
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = make_bundle(tmp_path_factory.mktemp("skewed"), name="exact")
    pq.write_table(gallery_table(), made.path(files.GALLERY))
    fields = made.manifest.model_dump(exclude={"format", "version", "files"})
    write_manifest(made.directory, **{**fields, "cell_count": 100})  # nothing here reads its cells
    return Bundle.load(made.directory)


@pytest.fixture(scope="module")
def exact(bundle: Bundle) -> ExactGallery:
    return ExactGallery(bundle)


@pytest.fixture(scope="module", params=["lite", "server"])
def gallery(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Gallery]:
    directory = tmp_path_factory.mktemp("lite") / "milvus.db"
    uri = str(directory) if request.param == "lite" else request.getfixturevalue("milvus").uri
    info = load_bundle_gallery(bundle, uri)
    with Store(uri) as store:
        store.load(info.name)
        yield Gallery(store, info)


def test_many_searches_at_once_find_what_each_finds(exact: ExactGallery) -> None:
    queries = unit(np.random.default_rng(2), 150)
    cells: list[tuple[int, ...]] = [((), (HOT,), (TINY, EMPTY), (EMPTY,))[number % 4] for number in range(len(queries))]
    found = list(exact.search_each(queries, cells, 10))
    assert len(found) == len(queries)
    for query, inside, neighbors in zip(queries, cells, found, strict=True):
        _, wanted = exact.search(query, inside, 10)
        np.testing.assert_allclose(neighbors.similarity, wanted.similarity, atol=1e-6)
        np.testing.assert_array_equal(neighbors.cell_id, wanted.cell_id)


@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize(
    "cells",
    [(HOT,), (TINY,), (EMPTY,), (HOT, SAME_PARTITION), (TINY, EMPTY, 12, 13), tuple(range(100)), (12, 12), ()],
    ids=["hot", "tiny", "empty", "one partition", "several", "all cells", "twice", "whole gallery"],
)
def test_recall_is_one(gallery: Gallery, exact: ExactGallery, cells: tuple[int, ...], k: int) -> None:
    for query in unit(np.random.default_rng(1), 5):
        assert_exact(gallery.search(query, cells, k), exact, query, cells, k)
