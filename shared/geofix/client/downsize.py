"""Large pictures are made smaller before they are sent: the models read a few hundred pixels a side, not twelve million.

It needs Pillow (`pip install 'geofix[client-images]'`). Without it, and for anything that it does not read, the original goes
out unchanged, and the server says what is wrong with it.

The size is halved once or several times and never by anything between: the server reads a large JPEG at a half, a quarter or an
eighth of its size, so it comes to the same number of pixels, by the same reduction. benchmarks/downsize.py measures that this
changes an answer less than the server's own reduced reading does.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofix.errors import ConfigurationError, InvalidInput, Reason

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 1024
"""Pixels that every side keeps at least: several times what the models read."""
_SMALL_BYTES = 512 * 1024
"""A file of so few bytes is not worth decoding here."""
_MAX_PIXELS = 400_000_000
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def downsized(data: bytes) -> bytes:
    """The bytes of a smaller JPEG of the same picture, upright and without metadata, or `data` where that gains nothing."""
    if len(data) <= _SMALL_BYTES:
        return data
    try:
        image = _open(data)
        if image is None or not _is_large(image) or image.width * image.height > _MAX_PIXELS:
            return data
        factor, width = _factor(image), image.width
        image.draft(None, (image.width // factor, image.height // factor))  # of a JPEG; by up to 8
        smaller = _as_jpeg(image, factor // round(width / image.width))
    except Exception:  # a missing Pillow or whatever it says of a damaged file: the server judges the original
        return data
    return smaller if len(smaller) < len(data) else data


def encode(picture: Image | NDArray[Any], downsize: bool) -> bytes:
    """A file for a PIL image or for pixels, uint8, shape (height, width[, channels]): PNG, or JPEG where it is large.

    Raises:
        InvalidInput: it has no pixels, or the file that it is read from is damaged.
        ConfigurationError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ConfigurationError("pixels need Pillow to become a file: pip install 'geofix[client-images]'") from error
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) and picture.size else picture
    if isinstance(image, np.ndarray) or 0 in image.size:
        raise InvalidInput("the image has no pixels", Reason.IMAGE_NO_PIXELS)
    try:
        if downsize and _is_large(image):
            return _as_jpeg(image, _factor(image))
        upright = ImageOps.exif_transpose(image)
        out = io.BytesIO()
        (upright if upright.mode in _PNG_MODES else upright.convert("RGB")).save(out, "PNG", compress_level=1)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(f"the image cannot be read: {error}", Reason.IMAGE_UNREADABLE) from error
    return out.getvalue()


def _open(data: bytes) -> Image | None:
    """The picture of a JPEG, PNG or WebP file; not by Image.open, which would warn of what is large enough to be made smaller."""
    from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    if data.startswith(b"\xff\xd8"):
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if data.startswith(b"\x89PNG"):
        return PngImagePlugin.PngImageFile(io.BytesIO(data))
    if data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    return None


def _is_large(image: Image) -> bool:
    """Whether it is large, and of a kind that is the same picture as a JPEG: no transparency, eight bits."""
    plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    return plain and _factor(image) > 1


def _factor(image: Image) -> int:
    """The largest power of two by which every side can be divided and still keep LEAST_SIDE pixels."""
    return 1 << max(0, (min(image.size) // LEAST_SIDE).bit_length() - 1)


def _as_jpeg(image: Image, factor: int) -> bytes:
    from PIL import ImageOps

    small = ImageOps.exif_transpose(image.reduce(factor) if factor > 1 else image)
    small.info.clear()  # a comment, a colour profile or GPS: nothing that the answer rests on
    out = io.BytesIO()
    small.save(out, "JPEG", quality=95, subsampling="4:4:4")
    return out.getvalue()
