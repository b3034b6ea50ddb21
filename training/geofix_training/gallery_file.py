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
from geofix.errors import ConfigurationError
from geofix.geo import FloatArray

_HALVINGS = 20
"""Of the interval in which the scale lies with which a vector's length stays."""
_MOST_OFF = 0.005
"""Half of what a gallery may differ from unit vectors."""
_LEAST_COSINE = 0.95
"""Between vectors before and after, on average: with less, neighbours would change places."""


class GalleryFile:
    """Rows on their way into a gallery; equal features are one image, and only the first of them is written.

    Attributes:
        images: how many rows each cell got, (cells,).
        repeated: rows left out because their feature was there before.
    """

    def __init__(self, path: Path, dim: int, cells: Cells, fraction_bits: int | None = None) -> None:
        self._cells, self._dim, self._bits, self._seen = cells, dim, fraction_bits, set[str]()
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
        kept = embedding if self._bits is None else rounded(embedding, self._bits)
        values = kept.astype(np.float16).ravel()
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


def rounded(embedding: NDArray[np.float32], fraction_bits: int) -> NDArray[np.float32]:
    """Unit vectors (n, e) as multiples of 2^-fraction_bits: few values occur, and what repeats compresses.

    What rounding adds to a vector's length is taken off before it, so that its length stays 1 as nearly as multiples let it.

    Raises:
        ConfigurationError: that is not near enough, or they point elsewhere.
    """
    shorter, longer = np.zeros((len(embedding), 1)), np.full((len(embedding), 1), 2.0)
    for _ in range(_HALVINGS):  # what is rounded grows with what it is multiplied by
        scale = (shorter + longer) / 2
        _, length = _multiples(embedding * scale, fraction_bits)
        shorter, longer = np.where(length < 1, scale, shorter), np.where(length < 1, longer, scale)
    (below, less), (above, more) = (_multiples(embedding * scale, fraction_bits) for scale in (shorter, longer))
    nearer = 1 - less < more - 1
    off = np.where(nearer, 1 - less, more - 1)
    found = np.asarray(np.where(nearer, below, above), np.float32)
    cosine = float((found * embedding).sum(axis=1).mean()) if len(found) else 1.0
    if off.max(initial=0) > _MOST_OFF or cosine < _LEAST_COSINE:
        raise ConfigurationError(
            f"gallery.fraction_bits: {fraction_bits} are too few for embeddings of {embedding.shape[1]} values: their cosine to "
            f"what they were is {cosine:.2f}, and lengths change by {off.max():.1%}; give more"
        )
    return found


def _multiples(values: FloatArray, fraction_bits: int) -> tuple[FloatArray, FloatArray]:
    """Vectors (n, e) rounded, and their lengths, (n, 1)."""
    found = np.rint(values * 2.0**fraction_bits) / 2.0**fraction_bits
    return found, np.linalg.norm(found, axis=1, keepdims=True)
