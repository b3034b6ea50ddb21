"""The sources of images: a directory (places from EXIF), a CSV or Parquet table, WebDataset shards."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from geofix.errors import InvalidInput, Reason
from geofix.ingest.items import Item, Skipped, Why, place_of
from geofix.ingest.parts import Files, Lines, Part, Rows

PICTURE, ATTRIBUTION = "url", "attribution"
"""Columns that say where a picture can be looked at, and whom to credit."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; `url` and `attribution` are known too, and the rest are kept as fields."""

    file: str = "file"
    lat: str = "lat"
    lon: str = "lon"


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        path: a directory, a .csv or .parquet table, a .tar shard or a directory of them.
        images: the directory that a table's files are named from; None: the table's own.
        columns: what a table's columns are called.
        part: only this of it; None: all.
    """

    path: Path
    images: Path | None = None
    columns: Columns = Columns()
    part: Part | None = None

    def items(self) -> Iterator[Item | Skipped]:
        """What there is, in a fixed order.

        Raises:
            InvalidInput: there is no such source, or it is none of those; the message says what to do.
        """
        if isinstance(self.part, Files):
            return _files(self.path, self.part.names)
        if self.path.is_dir():
            shards = sorted(self.path.glob("*.tar"))
            return _shards(shards) if shards else _files(self.path, files_of(self.path))
        if not self.path.is_file():
            raise InvalidInput(f"{self.path}: there is no such file or directory", Reason.IMAGE_MISSING)
        base = self.images or self.path.parent
        match self.path.suffix.lower():
            case ".csv":
                return _csv(self.path, base, self.columns, self.part if isinstance(self.part, Lines) else None)
            case ".parquet":
                return _parquet(self.path, base, self.columns, self.part if isinstance(self.part, Rows) else None)
            case ".tar":
                return _shards([self.path])
        raise InvalidInput(f"{self.path} is not a directory, .csv, .parquet or .tar: name one of those")

    def count(self) -> int | None:
        """How many there are; None where only reading all of it would say."""
        if self.path.is_dir():
            return None if any(self.path.glob("*.tar")) else sum(1 for path in self.path.rglob("*") if path.is_file())
        match self.path.suffix.lower():
            case ".csv":
                with self.path.open("rb") as file:
                    return max(0, sum(1 for _ in file) - 1)  # a quoted line break counts too; it is for the time left
            case ".parquet":
                import pyarrow.parquet as pq

                return int(pq.read_metadata(self.path).num_rows)
        return None


def files_of(root: Path) -> Iterator[str]:
    """The files below a directory by their names from it, sorted; those that are hidden are left out."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _files(root: Path, names: Iterable[str]) -> Iterator[Item | Skipped]:
    for name in names:
        path = root / name
        if path.suffix.lower() in SUFFIXES:
            yield Item(name, None, path)
        else:
            yield Skipped(name, Why.NOT_AN_IMAGE, f"read are {', '.join(SUFFIXES)}")


def _csv(path: Path, base: Path, columns: Columns, part: Lines | None) -> Iterator[Item | Skipped]:
    try:
        with contextlib.closing(part.text(path) if part is not None else open_csv(path)) as file:
            reader = csv.DictReader(file, part.names if part is not None else None, skipinitialspace=True)
            need(path, reader.fieldnames or (), (columns.file, columns.lat, columns.lon))
            before = part.number if part is not None else 0
            for row in reader:
                yield _row(row, f"line {before + reader.line_num}", base, columns)
    except (UnicodeDecodeError, csv.Error) as error:
        raise not_csv(path, error) from error


def open_csv(path: Path) -> io.TextIOBase:
    """A CSV file as text; utf-8-sig, for spreadsheets put a byte order mark before the first column's name."""
    return path.open(newline="", encoding="utf-8-sig")


def not_csv(path: Path, error: Exception) -> InvalidInput:
    """What is said of a table that cannot be read."""
    return InvalidInput(f"{path} is not a CSV file in UTF-8: {error}")


def _parquet(path: Path, base: Path, columns: Columns, part: Rows | None) -> Iterator[Item | Skipped]:
    with open_parquet(path) as table:
        names = table.schema_arrow.names
        need(path, names, (columns.lat, columns.lon))
        if not {columns.file, "image", "feature", "embedding"} & set(names):
            raise InvalidInput(f"{path} has none of the columns {columns.file}, image, feature, embedding: add one")
        number = part.number if part is not None else 0
        for batch in part.batches(table) if part is not None else table.iter_batches(256):
            for row in batch.to_pylist():
                yield _row(row, f"row {number}", base, columns)
                number += 1


def open_parquet(path: Path) -> Any:
    """A Parquet file.

    Raises:
        InvalidInput: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput(f"{path} is not a Parquet file: {error}") from error


def need(path: Path, found: Any, wanted: tuple[str, ...]) -> None:
    """Refuse a table that lacks a column that is wanted.

    Raises:
        InvalidInput: naming those that it has.
    """
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidInput(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}: name yours with --file-column, "
            "--lat-column and --lon-column"
        )


def _row(row: Mapping[str, Any], where: str, base: Path, columns: Columns) -> Item | Skipped:
    known = (columns.file, columns.lat, columns.lon, PICTURE, ATTRIBUTION, "image", "feature", "embedding", "id", None)
    file = str(row.get(columns.file) or "").strip()
    name = file or str(row.get("id") or where)
    place = place_of(name, row.get(columns.lat), row.get(columns.lon))
    if isinstance(place, Skipped):
        return place
    if None in row:  # what csv makes of more values than columns
        return Skipped(name, Why.BAD_ROW, f"{where} has more values than the table has columns")
    vectors: dict[str, Any] = {}
    for column in ("feature", "embedding"):
        if row.get(column) is not None:
            try:
                vectors[column] = np.asarray(row[column], np.float32)
            except (TypeError, ValueError):
                return Skipped(name, Why.BAD_VECTOR, f"its {column} is not a list of numbers")
    image = row.get("image")
    data = image.get("bytes") if isinstance(image, dict) else image if isinstance(image, bytes) else None
    if data is None and not file and not vectors:
        return Skipped(name, Why.NO_FILE, f"{where} names no file")
    return Item(
        name,
        place,
        base / file if file and data is None and not vectors else None,
        data,
        str(row.get(PICTURE) or ""),
        str(row.get(ATTRIBUTION) or ""),
        {str(key): str(value) for key, value in row.items() if key not in known and value not in (None, "")},
        str(row.get("id") or "") if vectors else "",
        **vectors,
    )


def _shards(paths: list[Path]) -> Iterator[Item | Skipped]:
    """Shards of WebDataset: the members of a sample share their name up to the first dot after the last slash."""
    for path in paths:
        try:
            with tarfile.open(path, "r|*") as archive:
                key, sample = "", dict[str, bytes]()
                for member in archive:
                    folder, _, base = member.name.rpartition("/")
                    stem, _, suffix = base.partition(".")
                    if not member.isfile():
                        continue
                    if (found := f"{folder}/{stem}") != key and sample:
                        yield _sample(path, key, sample)
                        sample = {}
                    key = found
                    file = archive.extractfile(member)
                    sample["." + suffix.lower()] = file.read() if file is not None else b""
                if sample:
                    yield _sample(path, key, sample)
        except (tarfile.TarError, EOFError, OSError) as error:
            yield Skipped(path.name, Why.UNREADABLE, f"the shard is damaged from here on: {error}")


def _sample(shard: Path, key: str, sample: Mapping[str, bytes]) -> Item | Skipped:
    name = f"{shard.name}:{PurePosixPath(key).as_posix().lstrip('/')}"
    data = next((sample[suffix] for suffix in SUFFIXES if suffix in sample), None)
    if data is None:
        return Skipped(name, Why.NOT_AN_IMAGE, f"it has only {', '.join(sorted(sample))}")
    try:
        said = json.loads(sample.get(".json", b"{}"))
    except ValueError as error:
        return Skipped(name, Why.BAD_ROW, f"its .json cannot be read: {error}")
    if not isinstance(said, dict):
        return Skipped(name, Why.BAD_ROW, "its .json is not an object")
    told = "lat" in said or "lon" in said
    place = place_of(name, said.get("lat"), said.get("lon")) if told else None
    if isinstance(place, Skipped):
        return place
    fields = {k: str(v) for k, v in said.items() if k not in ("lat", "lon", PICTURE, ATTRIBUTION) and v is not None}
    return Item(name, place, None, data, str(said.get(PICTURE, "")), str(said.get(ATTRIBUTION, "")), fields)
