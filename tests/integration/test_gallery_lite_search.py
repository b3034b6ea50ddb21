"""Searches in a real Milvus Lite directory: exact against numpy, in the order of ids where rows are as near, in any script."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from bundle_factory import make_bundle
from gallery_tables import assert_exact, table_of, unit, with_gallery
from geofix.gallery.loader import load_bundle_gallery
from geofix.gallery.search import Gallery
from geofix.gallery.store import Store
from geofix.local import ExactGallery

HOT, TINY, EMPTY, SAME_PARTITION = 7, 3, 11, 71
"""Cells of the skewed gallery; 71 shares its partition with 7."""


def skewed_table() -> pa.Table:
    rng = np.random.default_rng(5)
    cells = np.concatenate(
        [np.full(6000, HOT), np.full(2, TINY), np.full(300, SAME_PARTITION), rng.choice([12, 13, 14], size=700)]
    )
    rng.shuffle(cells)
    embedding = unit(rng, len(cells)).astype(np.float16)
    embedding[-40:] = embedding[-1]  # twins: equal similarities
    cells[-40:] = HOT
    return table_of(embedding, cells)


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gallery, ExactGallery]]:
    """A gallery with a hot cell, a tiny one and an empty one."""
    bundle = with_gallery(make_bundle(tmp_path_factory.mktemp("skewed")), skewed_table())
    directory = tmp_path_factory.mktemp("lite") / "milvus.db"
    info = load_bundle_gallery(bundle, str(directory))
    with Store(str(directory)) as store:
        store.load(info.name)
        yield Gallery(store, info), ExactGallery(bundle)


@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize(
    "cells",
    [(HOT,), (TINY,), (EMPTY,), (HOT, SAME_PARTITION), (TINY, EMPTY, 12, 13), tuple(range(100)), (12, 12), ()],
    ids=["hot", "tiny", "empty", "one partition", "several", "all cells", "twice", "whole gallery"],
)
def test_recall_is_one(skewed: tuple[Gallery, ExactGallery], cells: tuple[int, ...], k: int) -> None:
    gallery, exact = skewed
    for query in unit(np.random.default_rng(1), 3):
        assert_exact(gallery.search(query, cells, k), exact, query, cells, k)


def test_twins_come_in_the_order_of_their_ids(skewed: tuple[Gallery, ExactGallery]) -> None:
    gallery, exact = skewed
    twins = np.flatnonzero(exact.cell_id == HOT)[-40:]  # the last that were written
    query = exact.embedding[twins[0]] / np.linalg.norm(exact.embedding[twins[0]])
    hits = gallery.search(query.astype(np.float32), (HOT,), 40)
    assert [hit.id for hit in hits] == sorted(exact.ids[row] for row in twins)


def test_text_beyond_ascii_and_absent_text_survive(skewed: tuple[Gallery, ExactGallery]) -> None:
    hit = skewed[0].search(unit(np.random.default_rng(2), 1)[0], (), 1)[0]
    assert hit.picture.startswith("https://example.org/é/")
    assert hit.attribution == ""
