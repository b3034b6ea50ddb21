"""`gallery.parquet`, written in chunks, so that a gallery of any size fits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geofix.cells import Cells
from geofix.geo import FloatArray

HALF_BITS = 11
"""Significant bits of a float16, the one that is not stored included."""


class GalleryFile:
    """Rows on their way into a gallery; equal features are one image, and only the first of them is written.

    Attributes:
        images: how many rows each cell got, (cells,).
        repeated: rows left out because their feature was there before.
    """

    def __init__(self, path: Path, dim: int, cells: Cells, significant_bits: int = HALF_BITS) -> None:
        self._cells, self._dim, self._bits, self._seen = cells, dim, significant_bits, set[str]()
        self.images, self.repeated = np.zeros(len(cells), np.int64), 0
        schema = {"id": pa.string(), "lat": pa.float64(), "lon": pa.float64(), "cell_id": pa.int32()}
        schema |= {"embedding": pa.list_(pa.float16(), dim), "picture": pa.string(), "attribution": pa.string()}
        self._schema = pa.schema(schema)
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            use_dictionary=["attribution"],
            # Signs and exponents beside one another repeat; between mantissas they would not.
            column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
        )

    def __enter__(self) -> GalleryFile:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._writer.close()

    def new(self, feature: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.int64]:
        """Which rows of features (c, d) have not been there before, rising; they are to be written next."""
        self._ids = [hashlib.sha256(row.tobytes()).hexdigest()[:32] for row in feature]
        first = {name: row for row, name in reversed(list(enumerate(self._ids))) if name not in self._seen}
        self._seen.update(first)
        keep = np.sort(np.fromiter(first.values(), np.int64, len(first)))
        self.repeated += len(feature) - len(keep)
        return keep

    def write(
        self,
        keep: NDArray[np.int64],
        embedding: NDArray[np.float32],
        lat: FloatArray,
        lon: FloatArray,
        pictures: Sequence[str],
        attribution: str,
    ) -> None:
        """Write the rows that `new` named: embeddings (k, e), places in degrees (k,), where their pictures are (k,)."""
        cell_id = self._cells.assign(lat, lon)
        self.images += np.bincount(cell_id, minlength=len(self._cells))
        values = rounded(embedding.astype(np.float16), self._bits).ravel()
        columns = [
            pa.array([self._ids[row] for row in keep], pa.string()),
            pa.array(lat, pa.float64()),
            pa.array(lon, pa.float64()),
            pa.array(cell_id, pa.int32()),
            pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float16()), self._dim),
            pa.array(list(pictures), pa.string()),
            pa.array([attribution] * len(keep), pa.string()),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def rounded(values: NDArray[np.float16], significant_bits: int) -> NDArray[np.float16]:
    """Float16 values of any shape, each with so many significant bits at most: what is left compresses."""
    dropped = HALF_BITS - significant_bits
    if not dropped:
        return values
    kept = np.uint32(0xFFFF ^ ((1 << dropped) - 1))
    half = np.uint32(1 << (dropped - 1))
    return ((values.view(np.uint16).astype(np.uint32) + half) & kept).astype(np.uint16).view(np.float16)
