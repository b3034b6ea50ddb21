"""Parts of the web service on their own: thumbnails of crops, problem documents, the page's files, samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geofix.errors import (
    DeadlineExceeded,
    GeofixError,
    InternalError,
    InvalidInput,
    NotFound,
    Overloaded,
    Reason,
    Unavailable,
)
from geofix_web.crops import KEPT, SIZE, Crop, Crops, crop_path, draw
from geofix_web.page import read_assets, read_samples
from geofix_web.problems import respond
from geofix_web.settings import WebSettings

FLORIDA = "crop:lat=27.9000&lon=-81.9000&footprint_km=450&rotation_deg=0"


def pixels(crop: Crop) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(draw(crop))) as image:
        assert image.size == (SIZE, SIZE)
        return np.asarray(image.convert("RGB"))


def test_a_crop_is_outlined_in_its_surroundings() -> None:
    picture = pixels(Crop(lat=27.9, lon=-81.9, footprint_km=900)).astype(int)
    edge = round(SIZE / 2 - SIZE / 2 * 900 / 1300)
    assert picture[edge : edge + 2, SIZE // 2].min() > 180
    assert picture[:, edge : edge + 2].mean() > picture[:, edge + 6 : edge + 8].mean() + 40


def test_land_is_where_it_is() -> None:
    sahara, atlantic = pixels(Crop(lat=24, lon=5, footprint_km=220)), pixels(Crop(lat=24, lon=-40, footprint_km=220))
    assert sahara[80:112, 80:112, 0].mean() > 120
    assert atlantic[80:112, 80:112, 2].mean() > 2 * atlantic[80:112, 80:112, 0].mean()


@pytest.mark.parametrize("place", [(0.0, 180.0), (0.0, -180.0), (90.0, 0.0), (-90.0, 0.0), (75.0, 179.9)])
def test_no_seam_at_the_ends_of_the_picture(place: tuple[float, float]) -> None:
    lat, lon = place
    assert pixels(Crop(lat=lat, lon=lon, footprint_km=10_000)).shape == (SIZE, SIZE, 3)


def test_only_a_description_of_a_crop_has_a_path() -> None:
    assert (crop_path(FLORIDA) or "").startswith("/v1/thumbnails/crop?lat=27.9&lon=-81.9&footprint_km=450")
    for picture in (
        "",
        "https://pictures.example/1.jpg",
        "crop:",
        "crop:lat=99&lon=0&footprint_km=1",
        "crop:lat=nan&lon=0",
    ):
        assert crop_path(picture) is None


async def test_thumbnails_are_kept_within_bounds() -> None:
    crops = Crops()
    first = Crop(lat=1, lon=1, footprint_km=220)
    assert await crops.thumbnail(first) == await crops.thumbnail(first)
    crops._kept.update({Crop(lat=1, lon=i / 10, footprint_km=1): b"" for i in range(KEPT)})
    await crops.thumbnail(Crop(lat=2, lon=2, footprint_km=220))
    assert len(crops._kept) == KEPT


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (InvalidInput("x", Reason.IMAGE_UNREADABLE), 400, False),
        (InvalidInput("x", Reason.IMAGE_TOO_MANY_BYTES), 413, False),
        (InvalidInput("x", Reason.IMAGE_FORMAT_UNSUPPORTED), 415, False),
        (NotFound("x"), 404, False),
        (Overloaded("x"), 429, True),
        (Unavailable("x"), 503, True),
        (DeadlineExceeded("x"), 504, False),
        (InternalError("x"), 500, False),
    ],
)
def test_errors_keep_their_reason(error: GeofixError, status: int, retry: bool) -> None:
    response = respond(error)
    assert (response.status_code, response.media_type) == (status, "application/problem+json")
    assert f'"reason":"{error.reason.value}"'.encode() in response.body
    assert ("retry-after" in response.headers) is retry


def test_the_page_is_whole_and_names_nothing_elsewhere() -> None:
    assets = read_assets()
    for name in (
        "index.html",
        "api.html",
        "js/main.js",
        "vendor/leaflet/LICENSE",
        "vendor/inter/LICENSE",
        "map/world.json",
    ):
        assert assets[name].body, name
    for name, each in assets.items():
        if name.endswith((".html", ".css", ".js")) and not name.startswith("vendor/"):
            addresses = each.body.decode().replace("http://www.w3.org/", "").replace("http://www.opengis.net/", "")
            assert "https://" not in addresses.replace("https?:", ""), name
            assert "<script>" not in addresses, name


def test_samples_are_those_of_the_table(tmp_path: Path) -> None:
    assert read_samples(None) == read_samples(tmp_path) == {}
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path.parent / "outside.jpg").write_bytes(b"b")
    (tmp_path / "truth.csv").write_text("file,lat,lon\na.jpg,1,2\nabsent.jpg,3,4\n../outside.jpg,5,6\n")
    samples = read_samples(tmp_path)
    assert {name: (s.lat, s.lon) for name, s in samples.items()} == {"a.jpg": (1.0, 2.0)}


@pytest.mark.parametrize("text", ["", "*", "https://a.example,http://b:1"])
def test_origins_are_read(text: str) -> None:
    settings = WebSettings(listen="127.0.0.1:1", gateway_addr="127.0.0.1:2", cors_origins=text)
    assert settings.origins == [origin for origin in text.split(",") if origin]


def test_what_is_no_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        WebSettings(listen="127.0.0.1:1", gateway_addr="127.0.0.1:2", cors_origins="a.example")
