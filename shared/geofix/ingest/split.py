"""Splits a source into parts, so that many workers can read it; rows and images stay with whoever reads them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from geofix.ingest.parts import Files, Lines, Part, Rows
from geofix.ingest.sources import Source, files_of, need, not_csv, open_parquet


def split(source: Source, images: int) -> Iterator[Source]:
    """The source in parts of at most `images` each; a shard is a part, however many it holds.

    Raises:
        InvalidInput: it cannot be read; see `Source.items`.
    """
    path = source.path
    shards = sorted(path.glob("*.tar")) if path.is_dir() else []
    if shards:
        yield from (replace(source, path=shard) for shard in shards)
    elif path.is_dir():
        yield from _parts(source, _names(files_of(path), images))
    elif path.is_file() and path.suffix.lower() == ".csv":
        yield from _parts(source, _lines(source, images))
    elif path.is_file() and path.suffix.lower() == ".parquet":
        yield from _parts(source, _rows(source, images))
    else:
        source.items()  # says what is wrong with it
        yield source


def _parts(source: Source, parts: Iterator[Part]) -> Iterator[Source]:
    return (replace(source, part=part) for part in parts)


def _names(names: Iterator[str], images: int) -> Iterator[Files]:
    while some := tuple(islice(names, images)):
        yield Files(some)


def _lines(source: Source, rows: int) -> Iterator[Lines]:
    """By the bytes of whole rows, quoted line breaks included, as the reader of CSV takes them line by line."""
    read = 0
    with source.path.open("rb") as file:

        def lines() -> Iterator[str]:
            nonlocal read
            for line in file:
                text = line.decode("utf-8" if read else "utf-8-sig")
                read += len(line)
                yield text

        reader = csv.reader(lines(), skipinitialspace=True)
        try:
            names = tuple(next(reader, ()))
            need(source.path, names, (source.columns.file, source.columns.lat, source.columns.lon))
            start, number, held = read, reader.line_num, 0
            for _row in reader:
                held += 1
                if held == rows:
                    yield Lines(start, read, number, names)
                    start, number, held = read, reader.line_num, 0
        except (UnicodeDecodeError, csv.Error) as error:
            raise not_csv(source.path, error) from error
    if held:
        yield Lines(start, read, number, names)


def _rows(source: Source, rows: int) -> Iterator[Rows]:
    with open_parquet(source.path) as table:
        before = 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            for start in range(0, count, rows):
                yield Rows(group, start, min(start + rows, count), before + start)
            before += count
