"""Manifests read in blocks: CSV or Parquet tables of images, WebDataset shards, files of features.

A table has the columns `id`, `path` (or `file`, or `url`), `lat`, `lon` and, if images belong together, `group`; `ManifestConfig`
gives other names, and tells which images may be published and where they can be seen.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from geofix.errors import InvalidInput
from geofix.features import Features
from geofix_training.data.index import Block
from geofix_training.data.screening import Screening, hash64
from geofix_training.experiment import ManifestConfig

PLACES = ("path", "file", "url")
"""Columns that may say where an image is; the first that is there counts."""
SUFFIXES = ("jpg", "jpeg", "png", "webp")
ROWS = 65_536
"""Rows of a block."""
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


def table_blocks(path: Path, screening: Screening, config: ManifestConfig = ManifestConfig()) -> Iterator[Block]:
    """The rows of a table that may be trained on.

    Raises:
        InvalidInput: it is no such table, lacks a column, or lat and lon are swapped.
    """
    for read in _batches(path, config):
        where = next((name for name in ([config.path] if config.path else PLACES) if name in read.column_names), None)
        named = [config.group] if config.group != ManifestConfig().group or config.leave_out else []
        named += [config.published] if config.published else []
        missing = [name for name in ("lat", "lon", *named, *config.link_columns) if name not in read.column_names]
        if where is None or missing:
            wanted = [*missing, *([] if where else [config.path or "path (or file, or url)"])]
            raise InvalidInput(f"{path} has no column {', '.join(wanted)}; it has {', '.join(read.column_names)}")
        batch = _without(read, where, screening, config)
        names = [text or "" for text in pc.cast(batch[where], pa.string()).to_pylist()]
        lat, lon = (_degrees(batch[name]) for name in ("lat", "lon"))
        ids = hash64(_texts(batch, "id", names))
        keep = screening.keep(names, lat, lon, ids)
        group = hash64(_texts(batch, config.group, names)) if config.group in batch.column_names else ids
        said = _texts(batch, config.published, [""] * len(names)) if config.published else ["yes"] * len(names)
        published = np.array([text.strip().lower() == "yes" for text in said], np.uint8)
        links = _links(batch, config)
        rows = np.flatnonzero(keep)
        none = np.zeros(len(rows), np.int64)
        shard = np.full(len(rows), -1, np.int32)
        yield Block(
            [names[row] for row in rows],
            lat[rows],
            lon[rows],
            ids[rows],
            group[rows],
            shard,
            none,
            none,
            [links[row] for row in rows] if links else [],
            published[rows],
        )


def shard_blocks(shards: list[Path], screening: Screening) -> Iterator[Block]:
    """The samples of WebDataset shards (an image and a .json with lat and lon under one name), where their bytes lie.

    A shard that is damaged counts up to there.
    """
    for number, path in enumerate(shards):
        found: dict[str, list[tuple[str, int, int, dict[str, object]]]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    folder, _, base = member.name.rpartition("/")
                    stem, _, suffix = base.partition(".")
                    sample = found.setdefault(f"{folder}/{stem}".lstrip("/"), [])
                    said = archive.extractfile(member) if suffix == "json" else None
                    content = _object(said.read()) if said is not None else {}
                    sample.append((suffix.lower(), member.offset_data, member.size, content))
        except (tarfile.TarError, EOFError) as error:
            screening.skip(f"in a damaged shard ({error})", str(path))
        except OSError as error:
            raise InvalidInput(f"the shard {path} cannot be read: {error.strerror}") from error
        yield _shard_block(number, path, found, screening)


def feature_blocks(features: Features, screening: Screening) -> Iterator[Block]:
    """The rows of a file of features; `offset` is the row in the file."""
    for start in range(0, len(features), ROWS):
        part = features.rows(np.arange(start, min(start + ROWS, len(features))))
        names = part.ids.tolist()
        ids = hash64(names)
        rows = np.flatnonzero(screening.keep(names, part.lat, part.lon, ids))
        group = hash64(part.group.tolist())[rows]
        shard, size = np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.int64)
        yield Block(
            [names[r] for r in rows], part.lat[rows], part.lon[rows], ids[rows], group, shard, start + rows, size
        )


def _shard_block(
    number: int, path: Path, found: dict[str, list[tuple[str, int, int, dict[str, object]]]], screening: Screening
) -> Block:
    names, rows, lat, lon = [], [], [], []
    for key, sample in found.items():
        image = next(((offset, size) for suffix, offset, size, _ in sample if suffix in SUFFIXES), None)
        said = next((content for suffix, _, _, content in sample if suffix == "json"), {})
        if image is None:
            screening.skip("without an image", f"{path.name}:{key}")
            continue
        names.append(f"{path.name}:{key}")
        rows.append(image)
        lat.append(_float(said.get("lat")))
        lon.append(_float(said.get("lon")))
    ids = hash64(names)
    keep = np.flatnonzero(screening.keep(names, np.array(lat, float), np.array(lon, float), ids))
    at = np.array(rows, np.int64).reshape(-1, 2)[keep]
    shard = np.full(len(keep), number, np.int32)
    kept = [names[row] for row in keep]
    return Block(kept, np.array(lat)[keep], np.array(lon)[keep], ids[keep], ids[keep], shard, at[:, 0], at[:, 1])


def _without(batch: pa.RecordBatch, where: str, screening: Screening, config: ManifestConfig) -> pa.RecordBatch:
    """The batch without the groups that the experiment leaves out."""
    if not config.leave_out:
        return batch
    out = pc.fill_null(pc.is_in(pc.cast(batch[config.group], pa.string()), pa.array(config.leave_out)), False)
    for name in pc.cast(batch.filter(out)[where], pa.string()).to_pylist():
        screening.skip("of a group that the experiment leaves out", name or "")
    return batch.filter(pc.invert(out))


def _links(batch: pa.RecordBatch, config: ManifestConfig) -> list[str]:
    """The links of a batch; a path keeps its slashes, all else that a URL cannot hold is quoted."""
    template, columns = config.link, config.link_columns
    if not template:
        return []
    values = [[quote(text or "") for text in pc.cast(batch[name], pa.string()).to_pylist()] for name in columns]
    rows = zip(*values, strict=True) if columns else ([()] * batch.num_rows)
    return [template.format_map(dict(zip(columns, row, strict=True))) for row in rows]


def _batches(path: Path, config: ManifestConfig) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise InvalidInput(f"there is no manifest {path}")
    try:
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(ROWS)
            return
        columns = {
            name: pa.string()
            for name in ("id", "lat", "lon", config.group, config.published, config.path, *PLACES)
            if name
        }
        convert = pa.csv.ConvertOptions(column_types=columns, strings_can_be_null=True)
        read = pa.csv.ReadOptions(block_size=8 << 20)
        with pa.csv.open_csv(path, read, convert_options=convert) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"{path} is no table (.csv or .parquet): {error}") from error


def _degrees(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.match_substring_regex(column, _NUMBER), pc.utf8_trim_whitespace(column), None)
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy(zero_copy_only=False), float)


def _texts(batch: pa.RecordBatch, name: str, otherwise: list[str]) -> list[str]:
    if name not in batch.column_names:
        return otherwise
    found = pc.cast(batch[name], pa.string()).to_pylist()
    return [text or other for text, other in zip(found, otherwise, strict=True)]


def _object(data: bytes) -> dict[str, object]:
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _float(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
