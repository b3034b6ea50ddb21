"""What the client takes for an image: paths, bytes, PIL images, pixels, features; and how large ones become smaller."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geofix.client import downsize
from geofix.client.sources import MAX_SENT_BYTES, image_source, sendable
from geofix.errors import ConfigurationError, InvalidInput, Reason
from geofix.images import decode
from image_factory import encoded, pattern


def noisy(width: int, height: int) -> Image.Image:
    """Smooth, with noise on it: a file of some size whose content survives being made smaller."""
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    pixels = np.stack([across, down, 200 - across], axis=-1) + rng.uniform(0, 50, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


_NOISY = noisy(1920, 1280)
LEAST = 600


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """What counts as large is less here than in use, so that the tests are quick."""
    monkeypatch.setattr(downsize, "LEAST_SIDE", LEAST)
    return _NOISY


def sent(source: Any, downsize: bool = True) -> bytes:
    message = image_source(source, downsize)
    assert message.WhichOneof("source") == "image"
    return message.image


def test_a_path_and_the_bytes_of_a_file_go_out_as_they_are(tmp_path: Path) -> None:
    data = encoded(pattern(), "JPEG")
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path, str(path)):
        assert sent(source) == data


def test_pil_images_and_pixels_are_lossless() -> None:
    image = pattern()
    pixels = np.asarray(image)
    for source in (image, pixels, pixels[..., ::-1][..., ::-1]):
        assert np.array_equal(np.asarray(decode(sent(source))), pixels)
    grey = pixels[..., 0]
    assert np.array_equal(np.asarray(decode(sent(grey)))[..., 0], grey)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "HSV"])
def test_pil_images_of_every_mode_are_pictures(mode: str) -> None:
    image = Image.new("I;16", (40, 30), 30000) if mode == "I;16" else pattern().convert(mode)
    assert decode(sent(image)).size == image.size


def test_a_pil_image_is_sent_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tagged = Image.open(io.BytesIO(encoded(pattern(), "JPEG", exif=exif)))
    assert decode(sent(tagged)).size == decode(encoded(pattern(), "JPEG", exif=exif)).size == pattern().size[::-1]


def test_a_vector_of_floats_is_a_feature() -> None:
    feature = np.arange(4.0)
    message = image_source(feature, True)
    assert np.array_equal(np.frombuffer(message.feature, "<f4"), feature)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), r"array of float32, shape \(4, 4, 3\), is neither"),
        (np.zeros((4, 4, 2), np.uint8), "is neither"),
        (np.zeros(3, np.int64), "is neither"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (7, "^int is not a path"),
        (None, "^NoneType is not a path"),
        ("absent.jpg", "absent.jpg: there is no such file"),
        (Path(__file__).parent, "it is a directory"),
        ("null\0.jpg", "there is no such file"),
    ],
)
def test_anything_else_says_what_it_is(source: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        image_source(source, True)


def test_a_pil_image_of_a_damaged_file_cannot_be_read(large: Image.Image) -> None:
    data = encoded(large, "JPEG")
    with pytest.raises(InvalidInput, match="cannot be read"):
        image_source(Image.open(io.BytesIO(data[: len(data) // 2])), True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_large_files_become_smaller_and_stay_the_same_picture(large: Image.Image, kind: str) -> None:
    data = encoded(large, kind, **({"quality": 95} if kind != "PNG" else {"compress_level": 1}))
    small = sent(data)
    assert len(small) < 0.8 * len(data)
    image = decode(small)
    assert image.size == (960, 640)
    ours, theirs = (np.asarray(i.resize((64, 64), Image.Resampling.BICUBIC), float) for i in (image, large))
    assert np.abs(ours - theirs).mean() < 1
    assert sent(data, downsize=False) == data


@pytest.mark.parametrize("at_least", [150, 300])
def test_the_server_comes_to_the_same_pixels(large: Image.Image, at_least: int) -> None:
    data = encoded(large, "JPEG", quality=95)
    small = sent(data)
    assert small != data
    ours, theirs = (np.asarray(decode(each, at_least=at_least), float) for each in (small, data))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 0.75


def test_a_photo_of_less_than_twice_what_is_kept_goes_out_as_it_is(large: Image.Image) -> None:
    data = encoded(large.crop((0, 0, 1920, 2 * LEAST - 1)), "JPEG", quality=95)
    assert sent(data) == data


def test_a_huge_photo_is_halved_as_often_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downsize, "LEAST_SIDE", 40)
    for kind in ("JPEG", "PNG"):
        data = encoded(_NOISY, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 1}))
        assert decode(sent(data)).size == (60, 40)


def test_large_pil_images_and_pixels_become_smaller(large: Image.Image) -> None:
    for source in (large, np.asarray(large)):
        assert decode(sent(source)).size == (960, 640)
    assert decode(sent(large, downsize=False)).size == large.size


def test_metadata_stays_here(large: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker that is nobody's business"
    data = encoded(large, "JPEG", quality=95, exif=exif, comment=b"a comment", icc_profile=b"profile")
    small = sent(data)
    assert all(words in data and words not in small for words in (b"nobody's business", b"a comment", b"profile"))
    assert decode(small).size == (640, 960), "upright without the tag"


def test_what_a_jpeg_cannot_show_the_same_goes_out_as_it_is(large: Image.Image) -> None:
    clear = large.convert("RGBA")
    clear.putalpha(128)
    data = encoded(clear, "PNG", compress_level=1)
    assert sent(data) == data
    cmyk = encoded(large.convert("CMYK"), "JPEG", quality=95)
    assert sent(cmyk) == cmyk


def test_what_cannot_be_read_goes_out_as_it_is(large: Image.Image) -> None:
    whole = encoded(large, "JPEG", quality=95)
    for data in (whole[: len(whole) // 2], bytes(600 * 1024), b"\xff\xd8" + bytes(600 * 1024), b"text " * 200_000):
        assert sent(data) == data


def test_without_pillow_the_original_goes_out(large: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(large, "JPEG", quality=95)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert sent(data) == data
    with pytest.raises(ConfigurationError, match=r"geofix\[client-images\]"):
        image_source(np.zeros((4, 4, 3), np.uint8), True)


def test_a_file_that_no_message_can_carry() -> None:
    with pytest.raises(InvalidInput, match="more than a message can carry") as caught:
        sendable(bytes(MAX_SENT_BYTES + 1), True)
    assert caught.value.reason is Reason.IMAGE_TOO_MANY_BYTES


def test_a_photo_over_the_limit_fits_once_it_is_smaller(monkeypatch: pytest.MonkeyPatch, large: Image.Image) -> None:
    data = encoded(large, "JPEG", quality=100)
    monkeypatch.setattr("geofix.client.sources.MAX_SENT_BYTES", len(data) - 1)
    assert len(sendable(data, True)) < len(data)
    with pytest.raises(InvalidInput, match="over"):
        sendable(data, False)
