"""Tables of where images were really taken: CSV with the columns file, lat and lon (degrees); others are ignored."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from geofix.errors import InvalidInput

COLUMNS = ("file", "lat", "lon")


def read_truth(path: Path) -> dict[str, tuple[float, float]]:
    """Where each file was taken: name -> (lat, lon) in degrees, in the table's order.

    Raises:
        InvalidInput: the table cannot be read, lacks a column, names a file twice, or a coordinate is not one; the message
            names the line and says what to do.
    """
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            return dict(_rows(path, csv.DictReader(file, skipinitialspace=True)))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} is not a CSV file in UTF-8: {error}") from error


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise InvalidInput(
            f"{path} has no column {', '.join(missing)}: its first line must name file, lat and lon; it names {found}"
        )
    seen: set[str] = set()
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        name = (row["file"] or "").strip()
        if not name:
            raise InvalidInput(f"{where}: no file is named")
        if name in seen:
            raise InvalidInput(f"{where}: {name} was named before")
        seen.add(name)
        yield name, (_degrees(where, "lat", row["lat"], 90), _degrees(where, "lon", row["lon"], 180))


def _degrees(where: str, column: str, text: str | None, limit: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"{where}: {column} is {text!r}, not a number of degrees")
    if abs(value) > limit:
        hint = "; are lat and lon swapped?" if column == "lat" else ""
        raise InvalidInput(f"{where}: {column} is {value:g}, beyond ±{limit:g} degrees{hint}")
    return value
