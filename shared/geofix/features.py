"""Files of precomputed features: NPZ with `features`, `lat`, `lon` and, if there are any, `ids` and `group`.

`features` is (n, d), or (n, v, d) for v views of each of n places; integers are unit vectors times 127. `latlon`, (n, 2),
may stand for `lat` and `lon`. A group is what belongs together (a panorama, a collection): it is never split, and never
searched for its own members.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix.errors import InvalidInput
from geofix.geo import FloatArray


@dataclass(frozen=True)
class Features:
    """n features (n, d) with their places in degrees, ids and groups, (n,) each."""

    feature: NDArray[np.float32]
    lat: FloatArray
    lon: FloatArray
    ids: NDArray[np.str_]
    group: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.lat)

    def rows(self, index: NDArray[np.int64]) -> Features:
        """The rows at `index`."""
        return Features(self.feature[index], self.lat[index], self.lon[index], self.ids[index], self.group[index])

    def write(self, path: Path) -> None:
        """Write as NPZ; the file appears whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, features=self.feature, lat=self.lat, lon=self.lon, ids=self.ids, group=self.group)
        partial.replace(path)


def read_features(path: Path) -> Features:
    """Read such a file.

    Raises:
        InvalidInput: it is not there, no NPZ, lacks an array, or a value cannot be right; the message says which.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InvalidInput(f"{path} is not an NPZ file of plain arrays: {error}") from error
    if "latlon" in arrays and arrays["latlon"].ndim == 2:
        arrays["lat"], arrays["lon"] = arrays["latlon"][:, 0], arrays["latlon"][:, 1]
    missing = [name for name in ("features", "lat", "lon") if name not in arrays]
    if missing:
        raise InvalidInput(f"{path} has no array {', '.join(missing)}; it has {', '.join(arrays) or 'none'}")
    return _checked(path, arrays)


def _checked(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Features:
    raw, lat, lon = arrays["features"], np.asarray(arrays["lat"], float), np.asarray(arrays["lon"], float)
    if raw.ndim not in (2, 3) or not raw.size or lat.shape != (len(raw),) or lon.shape != (len(raw),):
        raise InvalidInput(
            f"{path}: features {raw.shape} must be (n, d) or (n, v, d) and not empty; lat {lat.shape} and lon {lon.shape} (n,)"
        )
    for name in ("ids", "group"):
        if name in arrays and len(arrays[name]) != len(raw):
            raise InvalidInput(f"{path}: {name} has {len(arrays[name])} values for {len(raw)} features")
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if bad.any():
        row = int(bad.argmax())
        hint = "; are lat and lon swapped?" if abs(lat[row]) > 90 >= abs(lon[row]) else ""
        raise InvalidInput(
            f"{path}: row {row} is at lat {lat[row]:g}, lon {lon[row]:g}, which is not on the Earth{hint}"
        )
    views = raw.shape[1] if raw.ndim == 3 else 1
    feature = raw.reshape(-1, raw.shape[-1]).astype(np.float32)
    if raw.dtype.kind in "iu":
        feature /= np.float32(127)
        feature /= np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-6)
    if not np.isfinite(feature).all():
        raise InvalidInput(
            f"{path}: features of row {int((~np.isfinite(feature)).any(axis=1).argmax())} are not finite"
        )
    ids = arrays["ids"].astype(str) if "ids" in arrays else np.arange(len(raw)).astype(str)
    group = arrays["group"].astype(str) if "group" in arrays else ids
    if views > 1:
        numbers = np.tile(np.arange(views).astype(str), len(raw))
        ids = np.char.add(np.char.add(np.repeat(ids, views), "/"), numbers)
    return Features(feature, np.repeat(lat, views), np.repeat(lon, views), ids, np.repeat(group, views))
