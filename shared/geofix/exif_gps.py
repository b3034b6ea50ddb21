"""Writing a place into a JPEG file: its pixels and every other byte of its metadata stay as they are.

The EXIF block is a TIFF file whose parts point at one another by offset. So nothing in it moves: the new GPS directory and a new
copy of the first directory, with an entry more, are appended, and the header points to that copy. Maker notes and thumbnails
keep their places. Layout and tags: CIPA DC-008 (Exif 2.32), sections 4.5, 4.6.6 and 4.7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from geofix.errors import InvalidInput, Reason

_EXIF = b"Exif\0\0"
_GPS_POINTER = 0x8825
_BYTE, _ASCII, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 4, 5, 7
_MAX_SEGMENT = 0xFFFF - 2
_EMPTY_TIFF = b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 0)


@dataclass(frozen=True)
class Fix:
    """A place for a photo: degrees, and metres within which it lies (0: nothing is said)."""

    lat: float
    lon: float
    radius_m: float = 0.0


def with_gps(data: bytes, fix: Fix) -> bytes:
    """The bytes of a JPEG file with a GPS position in its EXIF block.

    Raises:
        InvalidInput: it is no JPEG, it has a GPS position already, or its EXIF block is damaged or full.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        raise InvalidInput("a position is written into JPEG files only", Reason.IMAGE_FORMAT_UNSUPPORTED)
    start, end = _exif_segment(data)
    tiff = data[start + 4 + len(_EXIF) : end] if end > start else _EMPTY_TIFF
    try:
        body = _EXIF + _tiff_with_gps(tiff, fix)
    except struct.error as error:
        raise InvalidInput("its EXIF block is damaged", Reason.IMAGE_UNREADABLE) from error
    if len(body) > _MAX_SEGMENT:
        raise InvalidInput("its EXIF block is full: there is no room for a position", Reason.IMAGE_TOO_MANY_BYTES)
    return data[:start] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[end:]


def _exif_segment(data: bytes) -> tuple[int, int]:
    """Where the EXIF segment begins and ends; where there is none, both are the place where it belongs."""
    at, place = 2, 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            return at, end
        if data[at + 1] == 0xE0 and at == 2:  # JFIF's own header stays first
            place = end
        at = end
    return place, place


def _tiff_with_gps(tiff: bytes, fix: Fix) -> bytes:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise InvalidInput("its EXIF block is damaged", Reason.IMAGE_UNREADABLE)
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    entries = [tiff[first + 2 + 12 * i : first + 14 + 12 * i] for i in range(count)]
    following = tiff[first + 2 + 12 * count : first + 6 + 12 * count]
    if len(following) != 4:
        raise struct.error("the directory is cut off")
    if any(struct.unpack(f"{order}H", entry[:2])[0] == _GPS_POINTER for entry in entries):
        raise InvalidInput("it has a GPS position already, and that stays", Reason.OPTION_INVALID)
    padded = tiff + b"\0" * (len(tiff) % 2)
    gps = _gps_directory(order, len(padded), fix)
    pointer = struct.pack(f"{order}HHII", _GPS_POINTER, _LONG, 1, len(padded))
    entries = sorted([*entries, pointer], key=lambda entry: struct.unpack(f"{order}H", entry[:2])[0])
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following
    return padded[:4] + struct.pack(f"{order}I", len(padded) + len(gps)) + padded[8:] + gps + directory


def _gps_directory(order: str, at: int, fix: Fix) -> bytes:
    """The GPS directory with its values, for offset `at`."""
    method = b"ASCII\0\0\0geofix: estimated from the pixels"
    fields: list[tuple[int, int, int, bytes]] = [
        (0x00, _BYTE, 4, bytes([2, 3, 0, 0])),
        (0x01, _ASCII, 2, b"N\0" if fix.lat >= 0 else b"S\0"),
        (0x02, _RATIONAL, 3, _degrees(order, fix.lat)),
        (0x03, _ASCII, 2, b"E\0" if fix.lon >= 0 else b"W\0"),
        (0x04, _RATIONAL, 3, _degrees(order, fix.lon)),
        (0x12, _ASCII, 7, b"WGS-84\0"),
        (0x1B, _UNDEFINED, len(method), method),
    ]
    if fix.radius_m > 0:
        fields.append((0x1F, _RATIONAL, 1, struct.pack(f"{order}II", round(fix.radius_m), 1)))
    values_at = at + 2 + 12 * len(fields) + 4
    entries, values = b"", b""
    for tag, kind, count, value in fields:
        entries += struct.pack(f"{order}HHI", tag, kind, count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", values_at + len(values))
            values += value + b"\0" * (len(value) % 2)
    return struct.pack(f"{order}H", len(fields)) + entries + b"\0\0\0\0" + values


def _degrees(order: str, angle: float) -> bytes:
    """Degrees, minutes and seconds to 1/10,000, as three rationals."""
    parts = round(abs(angle) * 36_000_000)
    degrees, rest = divmod(parts, 36_000_000)
    minutes, seconds = divmod(rest, 600_000)
    return struct.pack(f"{order}6I", degrees, 1, minutes, 1, seconds, 10_000)
