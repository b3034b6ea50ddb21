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
    "link_end": "i8",
    "published": "u1",
}
"""Files of an index; `id` and `group` are 64-bit hashes, `end` and `link_end` the ends of texts in `names.bin` and `links.bin`;
shard −1 is a file or URL."""


@dataclass(frozen=True)
class Block:
    """Rows on their way into an index, as equally long columns.

    Attributes:
        names: paths, URLs or names within a shard.
        links: where the pictures can be seen; empty texts, or an empty list, where that is not said.
        published: 0 where an image must not be in a gallery that is given away; None: all may.
    """

    names: list[str]
    lat: FloatArray
    lon: FloatArray
    id: NDArray[np.uint64]
    group: NDArray[np.uint64]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    links: list[str] = field(default_factory=list)
    published: NDArray[np.uint8] | None = None


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
    _texts: dict[str, np.memmap[Any, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["lat"])

    def name(self, row: int) -> str:
        """The path, URL or name within its shard of a row."""
        return self._text("names.bin", self.columns["end"], row)

    def link(self, row: int) -> str:
        """Where a row's picture can be seen; a name that is a URL is its own link."""
        name = self.name(row)
        own = name if name.startswith(("http://", "https://")) else ""
        return (self._text("links.bin", self.columns["link_end"], row) if self.meta.get("links") else "") or own

    def _text(self, file: str, ends: NDArray[np.int64], row: int) -> str:
        if file not in self._texts:
            self._texts[file] = np.memmap(self.folder / file, np.uint8, "r")
        start = int(ends[row - 1]) if row else 0
        return bytes(self._texts[file][start : int(ends[row])]).decode()

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Open an index.

        Raises:
            InvalidInput: none was built there, or an earlier version built it.
        """
        meta = folder / "index.json"
        if not meta.is_file():
            raise InvalidInput(f"{folder} holds no index: run geofix-train partition first")
        missing = [name for name in COLUMNS if not (folder / f"{name}.bin").is_file()]
        if missing:
            raise InvalidInput(
                f"{folder} was built by an earlier version, without {', '.join(missing)}: name another --work folder"
            )
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
    rows, lengths = 0, {"end": 0, "link_end": 0}
    files = {name: (folder / f"{name}.bin").open("wb") for name in COLUMNS}
    try:
        with (folder / "names.bin").open("wb") as names, (folder / "links.bin").open("wb") as links:
            for block in blocks:
                count = len(block.names)
                published = np.ones(count, np.uint8) if block.published is None else block.published
                texts = {"end": (names, block.names), "link_end": (links, block.links or [""] * count)}
                ends = {}
                for column, (file, values) in texts.items():
                    encoded = [text.encode() for text in values]
                    ends[column] = lengths[column] + np.cumsum([len(text) for text in encoded], dtype=np.int64)
                    lengths[column] = int(ends[column][-1]) if count else lengths[column]
                    file.write(b"".join(encoded))
                rows += count
                columns = {**vars(block), **ends, "published": published}
                for name, dtype in COLUMNS.items():
                    files[name].write(np.asarray(columns[name], dtype).tobytes())
    finally:
        for file in files.values():
            file.close()
    if not rows:
        raise InvalidInput(f"nothing is left to train on: {json.dumps(meta.get('report', {}))}")
    meta = meta | {"links": lengths["link_end"] > 0}
    partial = folder / "index.json.partial"
    partial.write_text(json.dumps(meta, indent=1) + "\n")
    partial.replace(folder / "index.json")
    return Index.open(folder)
