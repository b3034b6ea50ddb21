"""Large pictures are made smaller before they are sent: the models read a few hundred pixels a side, not twelve million.

It needs Pillow (`pip install 'geofix[client-images]'`). Without it, and for anything that it does not read, the original goes
out unchanged, and the server says what is wrong with it. benchmarks/downsize.py measures how little the answer changes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofix.errors import ConfigurationError, InvalidInput, Reason

if TYPE_CHECKING:
    from PIL.Image import Image

SHORT_SIDE = 1024
"""Pixels of the short side that are kept: several times what the models read."""
_SMALL_BYTES = 512 * 1024
"""A file of so few bytes is not worth decoding here."""
_WORTH_IT = 1.2
"""A short side that is larger by less than this factor stays."""
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
        image.draft("RGB", (_kept(image.width, image), _kept(image.height, image)))
        smaller = _as_jpeg(image)
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
            return _as_jpeg(image)
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
    return plain and min(image.size) > _WORTH_IT * SHORT_SIDE


def _kept(side: int, image: Image) -> int:
    return round(side * SHORT_SIDE / min(image.size))


def _as_jpeg(image: Image) -> bytes:
    from PIL import Image as Pillow
    from PIL import ImageOps

    size = (_kept(image.width, image), _kept(image.height, image))
    small = ImageOps.exif_transpose(image.resize(size, Pillow.Resampling.BICUBIC))
    small.info.clear()  # a comment, a colour profile or GPS: nothing that the answer rests on
    out = io.BytesIO()
    small.save(out, "JPEG", quality=95, subsampling="4:4:4")
    return out.getvalue()
