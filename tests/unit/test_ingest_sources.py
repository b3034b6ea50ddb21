"""Where a user's images come from: EXIF GPS, tables and WebDataset shards, with what is wrong in them reported."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from geofix.ingest.exif import exif_place, gps_place
from geofix.ingest.items import Item, Skipped, Why, place_of
from geofix.ingest.sources import Source
from image_factory import encoded, pattern


def test_exif_gps_with_its_references() -> None:
    tags = {1: "S", 2: (33.0, 51.0, 30.6), 3: "W", 4: (151.0, 12.0, 36.0)}
    place = gps_place("x", tags)
    assert place == pytest.approx((-33.8585, -151.21))
    assert gps_place("x", {1: b"N\0", 2: (47.5,), 3: b"E\0", 4: (8, 30.0)}) == (47.5, 8.5)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({}, Why.NO_COORDINATES),
        ({1: "N", 2: (1.0, 2.0, 3.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: (90.0, 30.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: (1.0, 61.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "X", 2: (1.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: (float("nan"), 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
        ({1: "N", 2: "north", 3: "E", 4: (1.0, 0.0, 0.0)}, Why.BAD_COORDINATES),
    ],
)
def test_exif_gps_that_cannot_be_right_is_reported(tags: dict[int, object], why: Why) -> None:
    found = gps_place("x", tags)
    assert isinstance(found, Skipped)
    assert found.why is why


def with_gps(lat: tuple[float, ...], lon: tuple[float, ...]) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: lat, 3: "E", 4: lon})
    return encoded(pattern(), "JPEG", exif=exif)


def test_a_photograph_says_where_it_was_taken() -> None:
    place = exif_place("x", with_gps((48.0, 51.0, 29.5), (2.0, 17.0, 40.2)))
    assert place == pytest.approx((48.858194, 2.2945), abs=1e-5)
    for data, why in ((encoded(pattern(), "PNG"), Why.NO_COORDINATES), (b"text", Why.NOT_AN_IMAGE)):
        found = exif_place("x", data)
        assert isinstance(found, Skipped)
        assert found.why is why


@pytest.mark.parametrize(
    ("lat", "lon", "said"),
    [(95, 3, "beyond"), (-33, 181, "beyond"), ("x", 3, "not numbers"), ("nan", 3, "beyond"), (151.2, -33.8, "swapped")],
)
def test_a_place_that_cannot_be_right(lat: object, lon: object, said: str) -> None:
    found = place_of("x", lat, lon)
    assert isinstance(found, Skipped)
    assert found.why is Why.BAD_COORDINATES
    assert said in found.detail


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_shards(tmp_path: Path) -> None:
    picture, placed = encoded(pattern(), "JPEG"), with_gps((1.0, 0.0, 0.0), (2.0, 0.0, 0.0))
    said = {
        "lat": 10.5,
        "lon": -20.25,
        "title": "Bild",
        "url": "https://example.org/1",
        "attribution": "me",
        "none": None,
    }
    members = [
        ("a/0001.jpg", picture),
        ("a/0001.json", json.dumps(said).encode()),
        ("a/0002.jpg", placed),  # only its EXIF says where
        ("a/0003.txt", b"no image"),
        ("a/0004.jpg", picture),
        ("a/0004.json", b"{"),
        ("a/0005.jpg", picture),
        ("a/0005.json", b'{"lat": 95, "lon": 3}'),
        ("a/0006.jpg", picture),
        ("a/0006.json", b"[1]"),
    ]
    shard(tmp_path / "one.tar", members)
    (tmp_path / "two.tar").write_bytes(shard(tmp_path / "whole", [("b/1.png", picture * 40)]).read_bytes()[:4000])
    first, second, *others = list(Source(tmp_path).items())
    assert isinstance(first, Item)
    assert (first.name, first.place, first.data) == ("one.tar:a/0001", (10.5, -20.25), picture)
    assert (first.picture, first.attribution, first.fields) == ("https://example.org/1", "me", {"title": "Bild"})
    assert isinstance(second, Item)
    assert (second.place, second.data) == (None, placed)
    skipped = [each for each in others if isinstance(each, Skipped)]
    wanted = [Why.NOT_AN_IMAGE, Why.BAD_ROW, Why.BAD_COORDINATES, Why.BAD_ROW, Why.UNREADABLE]
    assert [each.why for each in skipped] == wanted
    assert len(skipped) == len(others)
    assert [each.name for each in skipped][-1] == "two.tar"
