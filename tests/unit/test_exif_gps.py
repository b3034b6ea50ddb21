"""A position in a JPEG's EXIF: where it belongs, and nothing else changes."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.ExifTags import GPS

from geofix.errors import InvalidInput
from geofix.exif_gps import Fix, with_gps
from image_factory import encoded, pattern

HERE = Fix(-36.51234567, 179.99999, 1234.4)


def camera_exif(order: str) -> Image.Exif:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a maker of cameras"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = b"a maker's note " * 20
    return exif


def gps_of(data: bytes) -> dict[int, object]:
    return dict(Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825))


def degrees(gps: dict[int, object], at: GPS, ref: GPS) -> float:
    d, m, s = (float(part) for part in gps[at])  # type: ignore[attr-defined]
    return (d + m / 60 + s / 3600) * (-1 if gps[ref] in ("S", "W") else 1)


@pytest.mark.parametrize("order", ["<", ">", None])
def test_the_position_is_there_and_the_rest_is_as_it_was(order: str | None) -> None:
    exif = {} if order is None else {"exif": camera_exif(order)}
    before = encoded(pattern(), "JPEG", comment=b"a comment", **exif)
    after = with_gps(before, HERE)
    gps = gps_of(after)
    assert degrees(gps, GPS.GPSLatitude, GPS.GPSLatitudeRef) == pytest.approx(HERE.lat, abs=3e-8)
    assert degrees(gps, GPS.GPSLongitude, GPS.GPSLongitudeRef) == pytest.approx(HERE.lon, abs=3e-8)
    assert gps[GPS.GPSMapDatum] == "WGS-84"
    assert float(gps[GPS.GPSHPositioningError]) == 1234  # type: ignore[arg-type]
    old, new = (Image.open(io.BytesIO(data)) for data in (before, after))
    assert after.endswith(before[before.index(b"\xff\xdb") :]), "the compressed picture is byte for byte the same"
    assert new.info["comment"] == b"a comment"
    assert new.size == old.size
    if order is not None:
        assert new.getexif()[0x010F] == "a maker of cameras"
        assert new.getexif()[0x0112] == 6
        assert new.getexif().get_ifd(0x8769)[0x927C] == b"a maker's note " * 20


def test_minutes_and_seconds_never_round_up_to_sixty() -> None:
    gps = gps_of(with_gps(encoded(pattern(), "JPEG"), Fix(10 - 1e-12, -0.0)))
    assert [float(part) for part in gps[GPS.GPSLatitude]] == [10, 0, 0]  # type: ignore[attr-defined]


def test_a_position_that_is_there_stays() -> None:
    data = with_gps(encoded(pattern(), "JPEG"), HERE)
    with pytest.raises(InvalidInput, match="has a GPS position already"):
        with_gps(data, Fix(1, 2))


def test_what_cannot_hold_one() -> None:
    with pytest.raises(InvalidInput, match="JPEG files only"):
        with_gps(encoded(pattern(), "PNG"), HERE)
    full = Image.Exif()
    full[0x010E] = "x" * 65_400
    with pytest.raises(InvalidInput, match="is full"):
        with_gps(encoded(pattern(), "JPEG", exif=full), HERE)
    broken = encoded(pattern(), "JPEG", exif=camera_exif("<")).replace(b"II*\0\x08\0\0\0", b"II*\0\xff\xff\xff\0")
    with pytest.raises(InvalidInput, match="is damaged"):
        with_gps(broken, HERE)
