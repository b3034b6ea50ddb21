"""Where a camera says that a picture was taken: the GPS tags of EXIF (CIPA DC-008, section 4.6.6)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

from PIL import Image

from geofix.images import FORMATS
from geofix.ingest.items import Skipped, Why

_GPS_IFD = 0x8825
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4


def exif_place(name: str, data: bytes) -> tuple[float, float] | Skipped:
    """The place in an image's EXIF, WGS84 degrees, or why there is none that can be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                tags = image.getexif().get_ifd(_GPS_IFD)
    except Exception as error:  # Pillow raises nearly anything for a damaged header
        return Skipped(name, Why.NOT_AN_IMAGE, type(error).__name__)
    return gps_place(name, tags)


def gps_place(name: str, tags: Mapping[int, object]) -> tuple[float, float] | Skipped:
    """The place that GPS tags state, WGS84 degrees."""
    if _LAT not in tags and _LON not in tags:
        return Skipped(name, Why.NO_COORDINATES, "its EXIF has no GPS position")
    try:
        lat = _degrees(tags[_LAT], tags[_LAT_REF], "NS", 90)
        lon = _degrees(tags[_LON], tags[_LON_REF], "EW", 180)
    except KeyError as error:
        return Skipped(name, Why.BAD_COORDINATES, f"its EXIF lacks GPS tag {error.args[0]}")
    except (ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        return Skipped(name, Why.BAD_COORDINATES, f"its EXIF: {error}")
    if lat == 0 and lon == 0:
        return Skipped(name, Why.BAD_COORDINATES, "its EXIF says 0, 0: what cameras write that have no position")
    return lat, lon


def _degrees(parts: object, ref: object, letters: str, limit: int) -> float:
    """Degrees, minutes and seconds (any of them a fraction) with a reference letter, as signed degrees."""
    if not isinstance(parts, tuple) or not 1 <= len(parts) <= 3:
        raise ValueError(f"{parts!r} is not degrees, minutes and seconds")
    values = [float(part) for part in parts] + [0.0] * (3 - len(parts))
    letter = (ref.decode("ascii", "replace") if isinstance(ref, bytes) else str(ref)).strip("\0 ").upper()[:1]
    if letter not in tuple(letters):
        raise ValueError(f"{ref!r} is not one of {', '.join(letters)}")
    degrees, minutes, seconds = values
    if not (0 <= degrees <= limit and 0 <= minutes < 60 and 0 <= seconds < 60):  # also true for NaN
        raise ValueError(f"{degrees:g}° {minutes:g}′ {seconds:g}″ {letter} is no position")
    value = degrees + minutes / 60 + seconds / 3600
    if value > limit:
        raise ValueError(f"{value:g}° {letter} is beyond {limit}°")
    return -value if letter in "SW" else value
