"""A backup of a gallery version: one Parquet file, written and read in pieces, so that a gallery of any size fits.

Each row has its vectors as they were, to the last bit. What the version said about itself, the number of rows and the SHA-256 of
all that they hold are written last: a file that was cut short has no end and cannot be opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geofix.errors import GeofixError, MismatchError, Reason
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import ImageRow

FORMAT = "1"
ROWS = 1_000
"""Rows that are written and read together."""
_FORMAT, _NAME, _VERSION, _ROWS, _HASH = (f"geofix.{name}" for name in ("backup", "name", "version", "rows", "sha256"))


@dataclass(frozen=True)
class Backup:
    """What is at the end of a backup.

    Attributes:
        path: the file.
        info: the version as it was.
        rows: images that can be searched, and those set aside.
        said: the text in which it says so.
        sha256: of that text and of everything that the rows hold.
    """

    path: Path
    info: GalleryInfo
    said: str
    rows: int
    sha256: str


class BackupWriter:
    """Writes a backup; whoever ends without `finish` leaves nothing that could be taken for one.

    Raises (every method): OSError; the file cannot be written.
    """

    def __init__(self, path: Path, info: GalleryInfo) -> None:
        self._path = path
        self._info = replace(info, adds=(), filled=0)  # how it was filled is of no use to whoever restores it
        self._part = path.with_name(f"{path.name}.part")
        columns = {"id": pa.string(), "cell_id": pa.int32(), "lat": pa.float64(), "lon": pa.float64()}
        columns |= {"embedding": pa.binary(4 * info.embedding_dim), "payload": pa.string()}
        columns |= {"feature": pa.binary(), "thumbnail": pa.binary()}
        self._schema = pa.schema(columns)
        self._writer = pq.ParquetWriter(self._part, self._schema, compression="zstd", write_statistics=False)
        self._waiting: list[ImageRow] = []
        self._said = json.dumps(self._info.properties())
        self._hash, self._rows = _begin_hash(info.name, self._said), 0

    def __enter__(self) -> BackupWriter:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._writer.is_open:
            self._writer.close()
        self._part.unlink(missing_ok=True)

    def write(self, rows: Sequence[ImageRow]) -> None:
        """Add rows, those set aside with their features."""
        self._waiting += rows
        while len(self._waiting) >= ROWS:
            self._flush(ROWS)

    def finish(self) -> Backup:
        """Write what waits and the end, and give the file its name."""
        self._flush(len(self._waiting))
        made = Backup(self._path, self._info, self._said, self._rows, self._hash.hexdigest())
        said = {_FORMAT: FORMAT, _NAME: self._info.name, _VERSION: self._said}
        self._writer.add_key_value_metadata({**said, _ROWS: str(made.rows), _HASH: made.sha256})
        self._writer.close()
        self._part.replace(self._path)
        return made

    def _flush(self, count: int) -> None:
        rows, self._waiting = self._waiting[:count], self._waiting[count:]
        for row in rows:
            _add(self._hash, row)
        self._rows += len(rows)
        if not rows:
            return
        values: dict[str, list[Any]] = {
            "id": [row.id for row in rows],
            "cell_id": [row.cell_id for row in rows],
            "lat": [row.lat for row in rows],
            "lon": [row.lon for row in rows],
            "embedding": [_bytes(row.embedding) for row in rows],
            "payload": [row.payload() for row in rows],
            "feature": [None if row.feature is None else _bytes(row.feature) for row in rows],
            "thumbnail": [row.thumbnail for row in rows],
        }
        self._writer.write_table(pa.table(values, schema=self._schema))


def open_backup(path: Path) -> Backup:
    """What a backup says of itself, without reading its rows.

    Raises:
        MismatchError: GALLERY_INVALID; it is no backup, was cut short, or is of another generation.
    """
    try:
        said = {key.decode(): value.decode() for key, value in (pq.read_metadata(path).metadata or {}).items()}
        if said[_FORMAT] != FORMAT:
            raise damaged(path, f"has backup format {said[_FORMAT]}, this geofix reads {FORMAT}")
        info = GalleryInfo.from_properties(said[_NAME], json.loads(said[_VERSION]))
        return Backup(path, info, said[_VERSION], int(said[_ROWS]), said[_HASH])
    except GeofixError:
        raise
    except FileNotFoundError:
        raise damaged(path, "does not exist") from None
    except KeyError:
        raise damaged(path, "is no backup of a gallery") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, "is no backup of a gallery, or was cut short") from error


def read_rows(backup: Backup) -> Iterator[list[ImageRow]]:
    """Its rows, some at a time.

    Raises:
        MismatchError: GALLERY_INVALID; it is damaged.
    """
    try:
        with pq.ParquetFile(backup.path) as file:
            for batch in file.iter_batches(ROWS):
                yield [_row(record, backup) for record in batch.to_pylist()]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(backup.path, "is damaged") from error


def content_hash(backup: Backup, rows: Iterator[list[ImageRow]]) -> str:
    """The SHA-256 of a backup with such rows, hexadecimal, as its end has to state it."""
    total = _begin_hash(backup.info.name, backup.said)
    for some in rows:
        for row in some:
            _add(total, row)
    return total.hexdigest()


def damaged(path: Path, what: str) -> MismatchError:
    """A backup that cannot be restored."""
    return MismatchError(f"{path} {what}: nothing was restored", Reason.GALLERY_INVALID, {"file": path.name})


def _row(record: dict[str, Any], backup: Backup) -> ImageRow:
    feature = record["feature"]
    row, digest = ImageRow.from_record({**record, "embedding": np.frombuffer(record["embedding"], "<f4")})
    if digest != row.digest:
        raise damaged(backup.path, f"is damaged in the row of image {row.id}")
    values: dict[str, Any] = {"thumbnail": record["thumbnail"]}
    values["feature"] = None if feature is None else np.frombuffer(feature, "<f4").astype(np.float32)
    return ImageRow(**{**{name: getattr(row, name) for name in row.__dataclass_fields__}, **values})


def _begin_hash(name: str, said: str) -> hashlib._Hash:
    return hashlib.sha256(json.dumps([name, said]).encode())


def _add(total: hashlib._Hash, row: ImageRow) -> None:
    total.update(row.digest.to_bytes(8))
    for part in (b"" if row.feature is None else _bytes(row.feature), row.thumbnail or b""):
        total.update(len(part).to_bytes(8))
        total.update(part)


def _bytes(vector: Any) -> bytes:
    return np.ascontiguousarray(vector, "<f4").tobytes()
