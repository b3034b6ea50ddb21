"""Embeddings with fewer bits: nearly the same vectors in a smaller file, whose reader sees no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from geofix.cells import Cells
from geofix.errors import ConfigurationError
from geofix_training.gallery_file import GalleryFile, rounded

ROWS, DIM = 200, 256


def embeddings() -> NDArray[np.float32]:
    values = np.random.default_rng(0).normal(size=(ROWS, DIM))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def written(folder: Path, bits: int | None) -> Path:
    path = folder / f"{bits}.parquet"
    means = np.concatenate([np.eye(3), -np.eye(3)])
    cells = Cells((("1",), ("3",), ("5",), ("7",), ("9",), ("b",)), means, np.full(6, 100.0), np.zeros(6, np.int64))
    with GalleryFile(path, DIM, cells, bits) as file:
        values, at = embeddings(), np.linspace(-80, 80, ROWS)
        file.write(file.new(values), values, at, 2 * at, ["https://host/picture"] * ROWS, "nobody")
    return path


@pytest.mark.parametrize("bits", [6, 7, 10])
def test_values_are_multiples_and_lengths_stay(bits: int) -> None:
    exact = embeddings()
    fewer = rounded(exact, bits)
    assert (fewer * 2.0**bits == np.rint(fewer * 2.0**bits)).all()
    assert (fewer.astype(np.float16) == fewer).all(), "a gallery's float16 holds them as they are"
    lengths = np.linalg.norm(fewer, axis=1)
    assert np.abs(lengths - 1).max() < 0.006
    assert ((fewer * exact).sum(axis=1) / lengths).min() > 1 - DIM * 4.0**-bits / 12, "no worse than rounding is"


def test_too_few_bits_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"fraction_bits: 2 are too few for embeddings of 256 values.*give more"
    ):
        rounded(embeddings(), 2)


def test_a_file_of_fewer_bits_is_smaller_and_reads_the_same_way(tmp_path: Path) -> None:
    full, few = written(tmp_path, None), written(tmp_path, 6)
    assert few.stat().st_size < 0.6 * full.stat().st_size
    a, b = (
        np.stack(pq.read_table(path)["embedding"].to_numpy(zero_copy_only=False)).astype(float) for path in (full, few)
    )
    assert (a == embeddings().astype(np.float16)).all()
    assert (b == rounded(embeddings(), 6)).all()
