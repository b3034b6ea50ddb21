"""Inputs for fuzzing: damaged image files, and messages with any values in their fields, nested ones too."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from PIL import Image

from geofix.errors import InvalidInput
from geofix.images import ImageLimits, Preprocessing, decode, prepare
from image_factory import PNG_SIGNATURE, encoded, pattern

INPUTS = int(os.environ.get("GEOFIX_FUZZ_INPUTS", "0"))
"""How many inputs a fuzzing test is to try; 0 is the small slice of the test command. `make fuzz` sets it."""
LIMITS = ImageLimits(max_bytes=256 * 1024, max_pixels=300_000)
_SMALL = tuple(
    Preprocessing(size=32, fit=fit, resample="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    for fit in ("squash", "center_crop", "short_side")
)
_INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0",
    b"\xff\xff",
    b"\xff\xd8\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
)


def seed_images() -> list[bytes]:
    """Small files of every kind that is read, and beginnings of kinds that are not."""
    rgb = pattern(40, 30)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(pattern(40, 30).convert("L"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 20
    depth16 = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    files = [
        encoded(rgb, "JPEG", quality=90, exif=exif),
        encoded(rgb, "JPEG", progressive=True, subsampling=0),
        encoded(rgb.convert("L"), "JPEG"),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb, "MPO", save_all=True, append_images=[rgb]),
        encoded(rgb, "PNG"),
        encoded(rgba, "PNG"),
        encoded(rgb.convert("P"), "PNG", transparency=3),
        encoded(rgb.convert("1"), "PNG"),
        encoded(depth16, "PNG"),
        encoded(rgb, "PNG", exif=exif),
        encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)]),
        encoded(rgb, "WEBP", quality=60, exif=exif),
        encoded(rgba, "WEBP", lossless=True),
        encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
    ]
    return [*files, b"GIF89a", b"BM\0\0", b"II*\0", b"%PDF-1.7", b"\0\0\0\x18ftypheic", b""]


SEEDS = seed_images()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with one to six kinds of damage; the checksums of a PNG are mended half of the time, lest nothing gets past them."""
    work = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(work) + 1)
        match chance.randrange(7):
            case 0 if at < len(work):
                work[at] ^= 1 << chance.randrange(8)
            case 1:
                value = chance.choice(_INTERESTING)
                work[at : at + len(value)] = value
            case 2:
                del work[at : at + chance.randint(1, 64)]
            case 3:
                work[at:at] = chance.randbytes(chance.randint(1, 16))
            case 4:
                work[at:at] = work[at : at + chance.randint(1, 128)]
            case 5:
                other = chance.choice(SEEDS)
                work[at:] = other[chance.randrange(len(other) + 1) :]
            case _:
                del work[at:]
    mended = chance.random() < 0.5 and work.startswith(PNG_SIGNATURE)
    return _with_checksums(bytes(work)) if mended else bytes(work)


def decode_or_refuse(data: bytes) -> bool:
    """Whether the bytes were an image; whatever else the decoder does than decode or refuse them is raised."""
    try:
        image, refusal = decode(data, LIMITS), None
    except InvalidInput as error:
        image, refusal = None, error
    if image is None:
        assert refusal is not None
        assert refusal.reason.startswith("IMAGE_")
        assert refusal.message
        return False
    assert image.mode == "RGB"
    for preprocessing in _SMALL:
        if preprocessing.fit == "short_side" and max(image.size) > 40 * min(image.size):
            continue  # as long as it is thin
        pixels = prepare(image, preprocessing)
        assert pixels.dtype == np.float32
        assert pixels.shape[0] == 3
        assert np.isfinite(pixels).all()
    return True


def _with_checksums(data: bytes) -> bytes:
    out, at = io.BytesIO(), len(PNG_SIGNATURE)
    out.write(data[:at])
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + size]
        out.write(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    out.write(data[at:])
    return out.getvalue()


def damaged_images() -> st.SearchStrategy[bytes]:
    """A seed, whole or damaged."""
    made = st.builds(
        lambda which, seed: damaged(SEEDS[which], random.Random(seed)),
        st.integers(0, len(SEEDS) - 1),
        st.integers(0, 2**32),
    )
    return st.one_of(st.sampled_from(SEEDS), made)


def vectors(dim: int) -> st.SearchStrategy[bytes]:
    """Little-endian float32: of the right length, of norm 1 or not, with NaN and infinities, or of another length."""

    def pack(values: list[float]) -> bytes:
        return np.array(values, "<f4").tobytes()

    def unit(seed: int) -> bytes:
        vector = np.random.default_rng(seed).normal(size=dim)
        return pack(list(vector / np.linalg.norm(vector)))

    any_value = st.floats(width=32)
    return st.one_of(
        st.integers(0, 1000).map(unit),
        st.lists(any_value, min_size=dim, max_size=dim).map(pack),
        st.sampled_from([b"", b"\0" * (4 * dim), b"\0" * (4 * dim - 1), b"\xff" * (4 * dim), b"\0" * (4 * dim + 4)]),
    )


Overrides = dict[str, st.SearchStrategy[Any]]


def messages(kind: type[Message], overrides: Overrides) -> st.SearchStrategy[Message]:
    """Messages whose fields are set or not, to anything; `overrides` are better values by the names of fields."""
    fields = kind.DESCRIPTOR.fields

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = kind()
        for field in fields:
            if not draw(st.integers(0, 3)):
                continue
            value = overrides[field.name] if field.name in overrides else _value(field, overrides)
            if field.is_repeated:
                items = draw(st.lists(value, max_size=draw(st.sampled_from([1, 3, 40]))))
                getattr(message, field.name).extend(items)
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(draw(value))
            else:
                setattr(message, field.name, draw(value))
        return message

    return build()


def _value(field: Any, overrides: Overrides) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(GetMessageClass(field.message_type), overrides)
    edges: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
        FieldDescriptor.CPPTYPE_INT32: lambda: _integers(-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_INT64: lambda: _integers(-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT32: lambda: _integers(0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_UINT64: lambda: _integers(0, 2**64 - 1),
        FieldDescriptor.CPPTYPE_ENUM: lambda: st.integers(-1, 9) | _integers(-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans,
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats,
        FieldDescriptor.CPPTYPE_FLOAT: lambda: st.floats(width=32),
    }
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return damaged_images() | st.binary(max_size=200)
        return st.text(max_size=20) | st.sampled_from(["", "\0", "gallery_", "é" * 300, "a" * 2000])
    return edges[field.cpp_type]()


def _integers(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(max(least, -3), min(most, 70)) | st.sampled_from([least, most]) | st.integers(least, most)
