"""Parts of a source that can be read by themselves: lines of a CSV, rows of a Parquet file, files of a directory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BATCH = 256


@dataclass(frozen=True)
class Lines:
    """Whole rows of a CSV file.

    Attributes:
        start: offset of the first byte.
        stop: of the byte after the last.
        number: lines before them.
        names: of the columns.
    """

    start: int
    stop: int
    number: int
    names: tuple[str, ...]

    def text(self, path: Path) -> io.StringIO:
        """What they say."""
        with path.open("rb") as file:
            file.seek(self.start)
            return io.StringIO(file.read(self.stop - self.start).decode("utf-8"), newline="")


@dataclass(frozen=True)
class Rows:
    """Rows of one row group of a Parquet file.

    Attributes:
        group: the row group.
        start: first row within it.
        stop: the row after the last.
        number: rows of the file before the first.
    """

    group: int
    start: int
    stop: int
    number: int

    def batches(self, table: Any) -> Iterator[Any]:
        """They, as batches of Arrow, of an open `pyarrow.parquet.ParquetFile`; those before them are read and dropped."""
        at = 0
        for batch in table.iter_batches(_BATCH, row_groups=[self.group]):
            first, last = max(self.start - at, 0), min(self.stop - at, len(batch))
            if first < last:
                yield batch.slice(first, last - first)
            at += len(batch)
            if at >= self.stop:
                return


@dataclass(frozen=True)
class Files:
    """Files of a directory, by their names from it."""

    names: tuple[str, ...]


Part = Lines | Rows | Files
