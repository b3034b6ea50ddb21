"""Embeddings with fewer bits: nearly the same vectors in a smaller file, whose reader sees no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from geofix.cells import Cells
from geofix_training.gallery_file import HALF_BITS, GalleryFile, rounded

ROWS, DIM = 200, 64


def embeddings() -> NDArray[np.float32]:
    values = np.random.default_rng(0).normal(size=(ROWS, DIM))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def written(folder: Path, bits: int) -> Path:
    path = folder / f"{bits}.parquet"
    means = np.concatenate([np.eye(3), -np.eye(3)])
    cells = Cells((("1",), ("3",), ("5",), ("7",), ("9",), ("b",)), means, np.full(6, 100.0), np.zeros(6, np.int64))
    with GalleryFile(path, DIM, cells, bits) as file:
        values, at = embeddings(), np.linspace(-80, 80, ROWS)
        file.write(file.new(values), values, at, 2 * at, ["https://host/picture"] * ROWS, "nobody")
    return path


@pytest.mark.parametrize("bits", [4, 7, 10])
def test_a_value_keeps_so_many_significant_bits(bits: int) -> None:
    exact = embeddings().astype(np.float16)
    fewer = rounded(exact, bits)
    off = np.abs(fewer.astype(float) - exact.astype(float)) / np.abs(exact.astype(float))
    normal = np.abs(exact) > 1e-4  # below that a float16 has fewer bits itself
    assert off[normal].max() <= 2.0**-bits
    assert np.mean(fewer != exact) > 0.4
    assert (rounded(exact, HALF_BITS) == exact).all()


def test_a_file_of_fewer_bits_is_smaller_and_reads_the_same_way(tmp_path: Path) -> None:
    full, few = written(tmp_path, HALF_BITS), written(tmp_path, 7)
    assert few.stat().st_size < 0.85 * full.stat().st_size
    a, b = (
        np.stack(pq.read_table(path)["embedding"].to_numpy(zero_copy_only=False)).astype(float) for path in (full, few)
    )
    assert (a == embeddings().astype(np.float16)).all()
    assert ((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.9999
