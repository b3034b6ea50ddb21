"""The partition of the Earth: S2 cells, each with a von Mises-Fisher component (mean direction and kappa)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import s2cell
from numpy.typing import ArrayLike, NDArray

from geofix.geo import FloatArray, latlon_to_xyz, xyz_to_latlon
from geofix.mvmf import log_vmf
from geofix.s2 import leaf_ids, parents


@dataclass(frozen=True)
class Cells:
    """n cells in row order; a cell's id is its row number.

    Attributes:
        s2_tokens: the S2 cells that make up each cell, as tokens; disjoint over all cells.
        xyz: component means, unit vectors, shape (n, 3).
        kappa: component concentrations, natural scale, shape (n,).
        images: how many training images the cell was made from, shape (n,).
    """

    s2_tokens: tuple[tuple[str, ...], ...]
    xyz: FloatArray
    kappa: FloatArray
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.s2_tokens)

    @cached_property
    def _by_s2_id(self) -> dict[int, int]:
        return {s2cell.token_to_cell_id(token): cell for cell, tokens in enumerate(self.s2_tokens) for token in tokens}

    @cached_property
    def _by_level(self) -> dict[int, tuple[NDArray[np.uint64], NDArray[np.int32]]]:
        """For each level of S2, finest first, the ids of its S2 cells, rising, and the cells that they belong to."""
        levels: dict[int, list[tuple[int, int]]] = {}
        for s2_id, cell in sorted(self._by_s2_id.items()):
            levels.setdefault(s2cell.cell_id_to_level(s2_id), []).append((s2_id, cell))
        return {
            level: (np.array([i for i, _ in known], np.uint64), np.array([cell for _, cell in known], np.int32))
            for level, known in sorted(levels.items(), reverse=True)
        }

    def containing(self, lat: float, lon: float) -> int | None:
        """The cell whose S2 area contains the place (degrees), or None where the partition dropped that area."""
        leaf = s2cell.lat_lon_to_cell_id(lat, lon)
        for level in self._by_level:
            cell = self._by_s2_id.get(s2cell.cell_id_to_parent_cell_id(leaf, level) if level < 30 else leaf)
            if cell is not None:
                return cell
        return None

    def assign(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int32]:
        """The cell of each place (degrees, shape (n,)): the one that contains it, else the component of highest density there.

        So every place has a cell, and a gallery row is always reachable through one.
        """
        lats, lons = np.asarray(lat, float).ravel(), np.asarray(lon, float).ravel()
        leaves = leaf_ids(lats, lons)
        out = np.full(len(leaves), -1, np.int32)
        for level, (ids, cells) in self._by_level.items():
            wanted = parents(leaves, level)
            at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            found = (out < 0) & (ids[at] == wanted)
            out[found] = cells[at[found]]
        lost = np.flatnonzero(out < 0)
        for part in np.array_split(lost, max(1, len(lost) // 2048)):
            if len(part):
                density = log_vmf(latlon_to_xyz(lats[part], lons[part]), self.xyz, self.kappa)
                out[part] = density.argmax(axis=1).astype(np.int32)
        return out

    def write(self, path: Path) -> None:
        """Write as `cells.parquet`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        lat, lon = xyz_to_latlon(self.xyz)
        table = pa.table(
            {
                "cell_id": pa.array(range(len(self)), pa.int32()),
                "s2_tokens": pa.array([list(tokens) for tokens in self.s2_tokens], pa.list_(pa.string())),
                "lat": lat,
                "lon": lon,
                "kappa": self.kappa,
                "images": pa.array(self.images, pa.int64()),
            }
        )
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> Cells:
        """Read `cells.parquet`.

        Raises:
            ValueError: the cell ids are not the row numbers, or a value is out of range.
        """
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        lat, lon, kappa = (table[name].to_numpy().astype(float) for name in ("lat", "lon", "kappa"))
        if not np.array_equal(table["cell_id"].to_numpy(), np.arange(len(table))):
            raise ValueError(f"{path}: cell_id must count from 0 in row order")
        if not (np.all(np.isfinite([kappa, lon])) and np.all(kappa > 0) and np.all(np.abs(lat) <= 90)):
            raise ValueError(f"{path}: every kappa must be positive and finite, every lat within ±90, every lon finite")
        tokens = tuple(tuple(row) for row in table["s2_tokens"].to_pylist())
        return cls(tokens, latlon_to_xyz(lat, lon), kappa, table["images"].to_numpy().astype(np.int64))
