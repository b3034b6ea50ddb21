"""What a source yields: images with their places, and what was skipped and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Why(StrEnum):
    """Why an image did not become a row."""

    NO_COORDINATES = "no coordinates"
    BAD_COORDINATES = "coordinates that cannot be right"
    NO_FILE = "no such file"
    NOT_AN_IMAGE = "not an image"
    UNREADABLE = "an image that cannot be read"
    TWICE = "the same image again"
    TWO_PLACES = "an image in two places"
    NEAR_DUPLICATE = "a near-duplicate"
    BAD_VECTOR = "a vector that cannot be right"
    BAD_ROW = "a row that cannot be used"


@dataclass(frozen=True)
class Skipped:
    """An image that was left out: its name in the source, why, and the facts."""

    name: str
    why: Why
    detail: str = ""


@dataclass(frozen=True)
class Item:
    """An image of a source.

    Attributes:
        name: what the source calls it.
        place: (lat, lon) in WGS84 degrees, or None where the image's EXIF has to say.
        path: its file, or None.
        data: the file's bytes, where there is no file.
        picture: where its picture can be looked at.
        attribution: whom to credit.
        fields: the other columns.
        id: the source's own name for a row that brings a vector in place of an image.
        feature: a backbone feature of this bundle, shape (feature_dim,), in place of the image.
        embedding: an embedding of this bundle, shape (embedding_dim,), in place of both.
    """

    name: str
    place: tuple[float, float] | None
    path: Path | None = None
    data: bytes | None = None
    picture: str = ""
    attribution: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    feature: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None


def place_of(name: str, lat: object, lon: object) -> tuple[float, float] | Skipped:
    """A place from what a table or a sidecar says of it, in degrees."""
    if _absent(lat) or _absent(lon):
        return Skipped(name, Why.NO_COORDINATES)
    try:
        values = float(str(lat)), float(str(lon))
    except ValueError:
        return Skipped(name, Why.BAD_COORDINATES, f"lat {lat!r}, lon {lon!r} are not numbers of degrees")
    if not (abs(values[0]) <= 90 and abs(values[1]) <= 180):
        swapped = " (are they swapped?)" if abs(values[1]) <= 90 < abs(values[0]) <= 180 else ""
        return Skipped(name, Why.BAD_COORDINATES, f"lat {values[0]:g}, lon {values[1]:g} is beyond ±90, ±180{swapped}")
    return values


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()
