"""Galleries of one's own making for tests: tables of rows, bundles that hold them, and what an exact search finds in them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bundle_factory import EMBEDDING_DIM
from geofix import bundle as files
from geofix.bundle import Bundle, write_manifest
from geofix.gallery.search import Hit
from geofix.local import ExactGallery


def unit(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    values = rng.normal(size=(rows, EMBEDDING_DIM)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def table_of(embedding: NDArray[np.float16], cells: NDArray[np.int64]) -> pa.Table:
    rows = len(cells)
    return pa.table(
        {
            "id": [f"{row * 7919 % 100_003:08x}" for row in range(rows)],
            "lat": np.linspace(-80, 80, rows),
            "lon": np.linspace(-180, 180, rows),
            "cell_id": pa.array(cells, pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel(), pa.float16()), EMBEDDING_DIM),
            "picture": [f"https://example.org/é/{row}.jpg" for row in range(rows)],
            "attribution": [None] * rows,
        }
    )


def with_gallery(bundle: Bundle, table: pa.Table) -> Bundle:
    """The bundle with another gallery and room for 100 cells; nothing here reads its cells."""
    pq.write_table(table, bundle.path(files.GALLERY))
    return rewritten(bundle, cell_count=100)


def rewritten(bundle: Bundle, **changes: object) -> Bundle:
    fields = bundle.manifest.model_dump(exclude={"format", "version", "files"})
    write_manifest(bundle.directory, **{**fields, **changes})
    return Bundle.load(bundle.directory)


def assert_exact(
    hits: list[Hit], exact: ExactGallery, query: NDArray[np.float32], cells: tuple[int, ...], k: int
) -> None:
    inside = np.flatnonzero(np.isin(exact.cell_id, cells)) if cells else np.arange(len(exact.cell_id))
    similarity = exact.embedding[inside] @ query
    expected = np.sort(similarity)[::-1][:k]
    assert len(hits) == min(k, len(inside))
    np.testing.assert_allclose([hit.similarity for hit in hits], expected, atol=1e-5)
    assert all(not cells or hit.cell_id in cells for hit in hits)
    assert len({hit.id for hit in hits}) == len(hits)
    assert hits == sorted(hits, key=lambda hit: (-hit.similarity, hit.id))
