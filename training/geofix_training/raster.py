"""A picture of the whole Earth, as a pyramid of levels, read from Web Mercator MBTiles or an equirectangular image."""

from __future__ import annotations

import io
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from geofix.errors import InvalidInput
from geofix.geo import FloatArray

# Workers are forked, and a fork does not copy OpenCV's threads: a child that uses them would wait for ever.
cv2.setNumThreads(1)

Pixels = NDArray[np.uint8]
TILE = 256


@dataclass(frozen=True)
class Raster:
    """The Earth as RGB pixels, finest level first; each level halves the one before.

    Attributes:
        levels: uint8 arrays, shape (rows, columns, 3); columns span 360° of longitude from -180°.
        projection: of the rows.
        top: row coordinate of level 0's first row, in level-0 pixels from the north edge of the projection's full sheet.
    """

    levels: tuple[Pixels, ...]
    projection: Literal["mercator", "equirectangular"]
    top: int

    @property
    def width(self) -> int:
        """Columns of level 0."""
        return int(self.levels[0].shape[1])

    def rows_of(self, lat: ArrayLike) -> FloatArray:
        """Row coordinates on level 0 of latitudes in degrees; outside the array where the raster ends."""
        phi = np.asarray(lat, float)
        if self.projection == "equirectangular":
            return np.asarray((90.0 - phi) / 360.0 * self.width - self.top, float)
        bounded = np.radians(np.clip(phi, -89.9, 89.9))
        return np.asarray((0.5 - np.arcsinh(np.tan(bounded)) / (2 * np.pi)) * self.width - self.top, float)

    def columns_of(self, lon: ArrayLike) -> FloatArray:
        """Column coordinates on level 0 of longitudes in degrees; they go on past the edge, where the Earth does."""
        return np.asarray((np.asarray(lon, float) + 180.0) / 360.0 * self.width, float)

    def km_per_pixel(self, lat: float) -> float:
        """Ground size of a level-0 pixel along a parallel (and, for Mercator, along the meridian)."""
        equator = 40_030.0 / self.width
        return equator if self.projection == "equirectangular" else equator * float(np.cos(np.radians(lat)))

    def covers(self, lat: ArrayLike) -> NDArray[np.bool_]:
        """Whether the raster has pixels at these latitudes."""
        rows = self.rows_of(lat)
        return np.asarray((rows >= 0) & (rows < self.levels[0].shape[0]))

    def colour(self, lat: ArrayLike, lon: ArrayLike, level: int) -> Pixels:
        """Nearest pixel of a level at places in degrees, shape (n,) -> (n, 3)."""
        pixels, scale = self.levels[level], 2.0**level
        rows = np.clip((self.rows_of(lat) / scale).astype(int), 0, pixels.shape[0] - 1)
        return np.asarray(pixels[rows, (self.columns_of(lon) / scale).astype(int) % pixels.shape[1]])


def open_raster(path: Path) -> Raster:
    """Read a raster.

    Raises:
        InvalidInput: the file is not there, or neither MBTiles nor an image twice as wide as high.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no raster {path}; name an MBTiles file or an equirectangular image")
    with path.open("rb") as file:
        is_sqlite = file.read(15) == b"SQLite format 3"
    return _read_mbtiles(path) if is_sqlite else _read_equirectangular(path)


def _read_mbtiles(path: Path) -> Raster:
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        (zoom,) = database.execute("SELECT MAX(zoom_level) FROM tiles").fetchone()
        low, high = database.execute(
            "SELECT MIN(tile_row), MAX(tile_row) FROM tiles WHERE zoom_level = ?", (zoom,)
        ).fetchone()
        side = 2**zoom
        pixels = np.zeros(((high - low + 1) * TILE, side * TILE, 3), np.uint8)
        rows = database.execute("SELECT tile_column, tile_row, tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
        for column, row, data in rows:  # MBTiles counts rows from the south
            top = (high - row) * TILE
            tile = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            pixels[top : top + TILE, column * TILE : (column + 1) * TILE] = tile
    except (sqlite3.Error, TypeError, ValueError, OSError) as error:
        raise InvalidInput(f"{path} is not an MBTiles file of JPEG or PNG tiles: {error}") from error
    finally:
        database.close()
    return Raster(_pyramid(pixels), "mercator", (side - 1 - high) * TILE)


def _read_equirectangular(path: Path) -> Raster:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InvalidInput(f"{path} is neither an MBTiles file nor an image: {error}") from error
    if abs(pixels.shape[1] - 2 * pixels.shape[0]) > 2:
        raise InvalidInput(
            f"{path} is {pixels.shape[1]} x {pixels.shape[0]}: an equirectangular image is twice as wide as high"
        )
    return Raster(_pyramid(pixels), "equirectangular", 0)


def _pyramid(pixels: Pixels) -> tuple[Pixels, ...]:
    levels = [pixels]
    while levels[-1].shape[1] >= 1024:
        height, width = levels[-1].shape[:2]
        levels.append(
            np.asarray(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
        )
    return tuple(levels)
