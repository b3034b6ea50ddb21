"""What may be located, as an `ImageSource`: a path, the bytes of a file, a PIL image, an array of pixels, or a feature."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofix.client.downsize import downsized, encode
from geofix.errors import InvalidInput, Reason
from geofix.v1 import types_pb2

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_READ_BYTES = 256 * 1024 * 1024
"""The largest file that is read at all."""
MAX_SENT_BYTES = 31 * 1024 * 1024
"""What a message of 32 MiB can carry; the server's own limit (20 MiB by default) is the server's to state."""

Bytes = bytes | bytearray | memoryview
if TYPE_CHECKING:
    Source = Bytes | str | os.PathLike[str] | Image | NDArray[Any]


def image_source(source: Source, downsize: bool) -> types_pb2.ImageSource:
    """The contract's message for a source.

    Args:
        source: the path of a JPEG, PNG or WebP file; the bytes of one; a PIL image; an array of uint8, shape (height, width),
            (height, width, 3) or (height, width, 4); or an array of floats, shape (d,): the backbone's feature.
        downsize: whether large pictures are made smaller before they are sent.

    Raises:
        InvalidInput: it is none of these, it cannot be read, or it is larger than a message can carry.
        ConfigurationError: a PIL image or pixels, and Pillow is not installed.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return types_pb2.ImageSource(image=sendable(bytes(source), downsize))
    if isinstance(source, str | os.PathLike):
        try:
            return types_pb2.ImageSource(image=sendable(read_file(source), downsize))
        except InvalidInput as error:
            raise InvalidInput(f"{os.fspath(source)}: {error.message}", error.reason, error.metadata) from error
    if isinstance(source, np.ndarray):
        if source.ndim == 1 and source.dtype.kind == "f":
            return types_pb2.ImageSource(feature=feature_bytes(source))
        if source.dtype == np.uint8 and (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))):
            return types_pb2.ImageSource(image=encode(source, downsize))
        raise InvalidInput(
            f"an array of {source.dtype}, shape {source.shape}, is neither pixels (uint8, (height, width, 3)) "
            "nor a feature (float32, (d,))",
            Reason.IMAGE_UNREADABLE,
        )
    if hasattr(source, "convert") and hasattr(source, "getexif"):  # a PIL image, without importing Pillow to know
        return types_pb2.ImageSource(image=encode(source, downsize))
    raise InvalidInput(
        f"{type(source).__name__} is not a path, the bytes of a file, a PIL image or an array", Reason.IMAGE_MISSING
    )


def feature_bytes(feature: Bytes | NDArray[Any]) -> bytes:
    """A backbone feature as little-endian float32."""
    return feature.astype("<f4").tobytes() if isinstance(feature, np.ndarray) else bytes(feature)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        InvalidInput: it cannot be read, or has more than 256 MiB; the message leaves its name to the caller.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_READ_BYTES + 1)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a name with a null character
        raise InvalidInput("there is no such file", Reason.IMAGE_MISSING) from error
    except IsADirectoryError as error:
        raise InvalidInput("it is a directory; name the images in it", Reason.IMAGE_MISSING) from error
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}", Reason.IMAGE_MISSING) from error
    if len(data) > MAX_READ_BYTES:
        raise _too_large(MAX_READ_BYTES, "geofix reads")
    return data


def sendable(data: bytes, downsize: bool) -> bytes:
    """The bytes to send for those of a file: the same, or those of a smaller picture.

    Raises:
        InvalidInput: they are more than a message can carry.
    """
    sent = downsized(data) if downsize else data
    if len(sent) > MAX_SENT_BYTES:
        raise _too_large(MAX_SENT_BYTES, "a message can carry")
    return sent


def _too_large(limit: int, what: str) -> InvalidInput:
    return InvalidInput(
        f"the file is over {limit:,} bytes, more than {what}: send a smaller or more compressed one",
        Reason.IMAGE_TOO_MANY_BYTES,
        {"limit_bytes": str(limit)},
    )
