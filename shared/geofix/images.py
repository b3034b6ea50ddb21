"""From a file's bytes to the network's input: decoding within limits, and the preprocessing that training and serving share.

Nothing is decoded before the limits are checked. Of the EXIF data only the orientation tag is read, and applied to the pixels.
"""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from geofix.errors import InvalidInput, Reason

# Our own limit is checked on the header, before any pixel is decoded; Pillow's would warn below it and fail differently above it.
Image.MAX_IMAGE_PIXELS = None

# Pillow registers WebP only on request, and with `formats` given it never asks.
Image.init()

# Said once a damaged file; EXIF that cannot be read is no news to anyone who runs a service.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "WEBP")
"""Pillow's names of what is accepted; its JPEG reader also takes MPO, the JPEG of phones that carries a second picture."""

VERSION = "2"
"""Of what this module makes of an image; it is part of the key under which answers are cached."""
OVERSAMPLING = 2
"""Pixels a side to which a large JPEG is decoded at least, in multiples of the network's input: at 2 the embeddings agree with
those of the full size to a cosine of 0.9989 at the median, at 1 to 0.9967 (`benchmarks/decoding.py`)."""

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"\0\0\1\0": "ICO",
    b"8BPS": "PSD",
}


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before it is decoded."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000


class Preprocessing(BaseModel):
    """How an RGB image becomes the backbone's input.

    `squash` resizes to size x size whatever the shape; `center_crop` resizes the short side and crops the middle;
    `short_side` resizes the short side and keeps the rest, as the published model does, so that the input's shape
    follows the image's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=2048, description="pixels")
    fit: Literal["squash", "center_crop", "short_side"]
    resample: Literal["bicubic", "bilinear"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    # Left out of a manifest where it is the default, so that bundles written before it was there keep their hash.
    jpeg: Literal["scaled", "full"] = Field(
        "scaled",
        exclude_if=lambda value: value == "scaled",
        description="`scaled`: a large JPEG is decoded at the smallest of 1/8, 1/4 and 1/2 of its size that still has "
        "twice the pixels a side that the input needs; `full`: every JPEG at its full size",
    )

    @property
    def decode_to(self) -> int:
        """The least width and height to decode a JPEG to, pixels; 0 is its full size."""
        return OVERSAMPLING * self.size if self.jpeg == "scaled" else 0


def read_input(data: bytes, preprocessing: Preprocessing, limits: ImageLimits = ImageLimits()) -> NDArray[np.float32]:
    """The network's input for the bytes of an image file: `decode`, then `prepare`."""
    return prepare(decode(data, limits, preprocessing.decode_to), preprocessing)


def decode(data: bytes, limits: ImageLimits = ImageLimits(), at_least: int = 0) -> Image.Image:
    """Decode a JPEG, PNG or WebP to RGB, upright. Of an animation the first frame counts; transparency shows white.

    Args:
        data: the file.
        limits: checked on the header.
        at_least: 0, or a number of pixels: a JPEG is decoded at the smallest of 1/8, 1/4, 1/2 and 1 of its size whose sides have
            at least so many. libjpeg then leaves out the high frequencies of each block instead of computing all pixels.

    Raises:
        InvalidInput: with a reason IMAGE_* and, for a limit, the limit in the metadata.
    """
    if not data:
        raise InvalidInput("the image is empty (0 bytes)", Reason.IMAGE_EMPTY)
    if len(data) > limits.max_bytes:
        raise InvalidInput(
            f"the image has {len(data):,} bytes; the limit is {limits.max_bytes:,}: send a smaller or more compressed one",
            Reason.IMAGE_TOO_MANY_BYTES,
            {"limit_bytes": str(limits.max_bytes), "bytes": str(len(data))},
        )
    with _open(data) as image:
        _check_pixels(image.size, limits)
        try:
            if at_least:
                image.draft(None, (at_least, at_least))  # does nothing to other formats
            image.load()
            upright = _upright(image)
            return _to_rgb(upright)
        except (OSError, SyntaxError, ValueError, IndexError, TypeError, EOFError, MemoryError) as error:
            raise _unreadable("it is truncated or damaged") from error


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The network's input for an RGB image: float32, shape (3, height, width), scaled to [0, 1], minus mean, over std."""
    resample = Image.Resampling.BICUBIC if preprocessing.resample == "bicubic" else Image.Resampling.BILINEAR
    size, (width, height) = preprocessing.size, image.size
    if preprocessing.fit == "squash":
        resized = image.resize((size, size), resample)
    else:
        short = min(width, height)  # size * side / short in this order, as the published code rounds
        resized = image.resize((int(size * width / short), int(size * height / short)), resample)
        if preprocessing.fit == "center_crop":
            left, top = (resized.width - size) // 2, (resized.height - size) // 2
            resized = resized.crop((left, top, left + size, top + size))
    pixels = np.asarray(resized)
    out = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel, values in enumerate(_scaled_values(preprocessing.mean, preprocessing.std)):
        np.take(values, pixels[..., channel], out=out[channel], mode="clip")
    return out


@functools.cache
def _scaled_values(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """What each of the 256 pixel values becomes, shape (3, 256): a look-up is five times faster than arithmetic on an image."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    scaled: NDArray[np.float32] = (values - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return scaled


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # a damaged header makes Pillow raise nearly anything (struct.error, KeyError, ...)
        if (size := _declared_size(data)) is not None and 0 in size:  # which Pillow does not call an image
            _check_pixels(size, ImageLimits())
        name = next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)
        if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
            name = "HEIC or AVIF"
        if name:
            raise InvalidInput(
                f"{name} images are not read; send JPEG, PNG or WebP",
                Reason.IMAGE_FORMAT_UNSUPPORTED,
                {"format": name, "accepted": "JPEG, PNG, WebP"},
            ) from error
        raise _unreadable("it is not a JPEG, PNG or WebP, or its header is damaged") from error


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a PNG or a JPEG, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xC3:  # start of frame: length, precision, height, width
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _check_pixels(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInput(f"the image has no pixels ({width} x {height})", Reason.IMAGE_NO_PIXELS)
    if width * height > limits.max_pixels:
        raise InvalidInput(
            f"the image has {width} x {height} pixels; the limit is {limits.max_pixels:,}: send a smaller one",
            Reason.IMAGE_TOO_MANY_PIXELS,
            {"limit_pixels": str(limits.max_pixels), "pixels": str(width * height)},
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        operation = _TRANSPOSE.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # EXIF that cannot be parsed says nothing about orientation; the pixels are fine
        operation = None
    return image if operation is None else image.transpose(operation)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if image.readonly else image
    if image.mode.startswith("I"):  # 16-bit greyscale: Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _unreadable(what: str) -> InvalidInput:
    return InvalidInput(f"the image cannot be read: {what}", Reason.IMAGE_UNREADABLE)
