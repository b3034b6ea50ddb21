"""The index of a collection: arrays on disk, one row an image, read through memory maps.

A row costs about 40 bytes and its name; a run over millions of rows holds only what it touches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofix.errors import InvalidInput
from geofix.geo import FloatArray

COLUMNS = {
    "lat": "f8",
    "lon": "f8",
    "id": "u8",
    "group": "u8",
    "shard": "i4",
    "offset": "i8",
    "size": "i8",
    "end": "i8",
}
"""Files of an index; `id` and `group` are 64-bit hashes, `end` the ends of names in `names.bin`; shard −1 is a file or URL."""


@dataclass(frozen=True)
class Block:
    """Rows on their way into an index, as equally long columns; `names` are paths, URLs or names within a shard."""

    names: list[str]
    lat: FloatArray
    lon: FloatArray
    id: NDArray[np.uint64]
    group: NDArray[np.uint64]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """An index that was built, opened.

    Attributes:
        folder: where it lies.
        columns: memory maps by the names of `COLUMNS`.
        meta: `images`, the folder that names are relative to, `shards`, their paths, and `report`, what was left out.
    """

    folder: Path
    columns: dict[str, NDArray[Any]]
    meta: dict[str, Any]
    _names: list[np.memmap[Any, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns["lat"])

    def name(self, row: int) -> str:
        """The path, URL or name within its shard of a row."""
        if not self._names:
            self._names.append(np.memmap(self.folder / "names.bin", np.uint8, "r"))
        end = self.columns["end"]
        start = int(end[row - 1]) if row else 0
        return bytes(self._names[0][start : int(end[row])]).decode()

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Open an index.

        Raises:
            InvalidInput: none was built there.
        """
        meta = folder / "index.json"
        if not meta.is_file():
            raise InvalidInput(f"{folder} holds no index: run geofix-train partition first")
        columns: dict[str, NDArray[Any]] = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r") for name, dtype in COLUMNS.items()
        }
        return cls(folder, columns, json.loads(meta.read_text()))


def build(folder: Path, blocks: Iterable[Block], meta: dict[str, Any]) -> Index:
    """Write an index block by block; `index.json` comes last, so that one that was cut off is built anew.

    Raises:
        InvalidInput: there is no row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    length = rows = 0
    files = {name: (folder / f"{name}.bin").open("wb") for name in COLUMNS}
    try:
        with (folder / "names.bin").open("wb") as names:
            for block in blocks:
                encoded = [name.encode() for name in block.names]
                ends = length + np.cumsum([len(name) for name in encoded], dtype=np.int64)
                length = int(ends[-1]) if len(ends) else length
                rows += len(encoded)
                names.write(b"".join(encoded))
                values = {**vars(block), "end": ends}
                for name, dtype in COLUMNS.items():
                    files[name].write(np.asarray(values[name], dtype).tobytes())
    finally:
        for file in files.values():
            file.close()
    if not rows:
        raise InvalidInput(f"nothing is left to train on: {json.dumps(meta.get('report', {}))}")
    partial = folder / "index.json.partial"
    partial.write_text(json.dumps(meta, indent=1) + "\n")
    partial.replace(folder / "index.json")
    return Index.open(folder)
