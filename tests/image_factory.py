"""Image files for tests, among them some that no library would write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6
"""Colour types of PNG."""


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The file that Pillow writes for an image."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pattern(width: int = 64, height: int = 48) -> Image.Image:
    """An RGB image without any symmetry."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + 2 * y) / 3], axis=-1).astype(np.uint8))


def photograph(width: int, height: int) -> bytes:
    """A PNG of soft random colours, another one for each width."""
    colours = np.random.default_rng(width).integers(0, 255, (7, 9, 3), np.uint8)
    return encoded(Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC), "PNG")


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG with the header that it is told, and these rows (each begins with its filter byte)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_of_array(pixels: NDArray[np.uint16], colour: int) -> bytes:
    """A PNG of 16 bits a channel; `pixels` has shape (height, width) or (height, width, channels)."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(width, height, 16, colour, rows)
