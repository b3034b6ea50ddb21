"""Decoding: whatever sense can be made of is made, all else is refused with its reason, and limits come before any pixel."""

from __future__ import annotations

import io
import tracemalloc
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from geofix.errors import InvalidInput, Reason
from geofix.images import ImageLimits, Preprocessing, decode, prepare, read_input
from image_factory import GREY, PNG_SIGNATURE, RGB, chunk, encoded, pattern, png, png_of_array

FORMATS = ("JPEG", "PNG", "WEBP")


def pixels(data: bytes) -> NDArray[np.uint8]:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(data: bytes, limits: ImageLimits = ImageLimits()) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_three_formats(file_format: str) -> None:
    found = pixels(encoded(pattern(), file_format, quality=95))
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - np.asarray(pattern())).mean() < 5


# What is refused


def test_empty() -> None:
    assert refusal(b"").reason is Reason.IMAGE_EMPTY


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"hello",
        b"<html></html>" * 100,
        b"\xff\xd8",
        b"\xff\xd8\xff",
        PNG_SIGNATURE,
        b"RIFF\0\0\0\0WEBP",
        bytes(5000),
    ],
)
def test_not_an_image(data: bytes) -> None:
    assert refusal(data).reason is Reason.IMAGE_UNREADABLE


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(file_format: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    whole = encoded(noise, file_format)
    assert refusal(whole[: int(len(whole) * share)]).reason is Reason.IMAGE_UNREADABLE


@pytest.mark.parametrize("file_format", FORMATS)
def test_damage_anywhere_is_refused_or_located_and_never_something_else(file_format: str) -> None:
    whole = encoded(pattern(), file_format)
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata; a service writes them to its log
            try:
                assert decode(bytes(damaged)).mode == "RGB"
            except InvalidInput as error:
                assert error.reason.value.startswith("IMAGE_")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_no_pixels_png(width: int, height: int) -> None:
    assert refusal(png(width, height, 8, RGB, b"")).reason is Reason.IMAGE_NO_PIXELS


def test_no_pixels_jpeg() -> None:
    data = bytearray(encoded(pattern(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = bytes(4)
    assert refusal(bytes(data)).reason is Reason.IMAGE_NO_PIXELS


def test_over_the_byte_limit_states_the_limit() -> None:
    data = encoded(pattern(), "PNG")
    error = refusal(data, ImageLimits(max_bytes=len(data) - 1))
    assert error.reason is Reason.IMAGE_TOO_MANY_BYTES
    assert error.metadata == {"limit_bytes": str(len(data) - 1), "bytes": str(len(data))}
    decode(data, ImageLimits(max_bytes=len(data)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_over_the_pixel_limit_states_the_limit(file_format: str) -> None:
    data = encoded(pattern(100, 50), file_format)
    error = refusal(data, ImageLimits(max_pixels=4999))
    assert error.reason is Reason.IMAGE_TOO_MANY_PIXELS
    assert error.metadata == {"limit_pixels": "4999", "pixels": "5000"}
    decode(data, ImageLimits(max_pixels=5000))


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header_alone(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_decoding(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    tracemalloc.start()
    error = refusal(png(side, side, 8, RGB, b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.reason is Reason.IMAGE_TOO_MANY_PIXELS
    assert error.metadata["pixels"] == str(side * side)
    assert peak < 2**20


def test_a_text_bomb_in_a_png_is_refused() -> None:
    import zlib

    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 * 2**20), 9))
    whole = encoded(pattern(), "PNG")
    assert refusal(whole[:33] + text + whole[33:]).reason is Reason.IMAGE_UNREADABLE


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded(pattern(), "GIF"), "GIF"),
        (encoded(pattern(), "TIFF"), "TIFF"),
        (encoded(pattern(), "BMP"), "BMP"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC or AVIF"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str) -> None:
    error = refusal(data)
    assert error.reason is Reason.IMAGE_FORMAT_UNSUPPORTED
    assert error.metadata == {"format": name, "accepted": "JPEG, PNG, WebP"}
    assert name in error.message


# What sense can be made of


@pytest.mark.parametrize("file_format", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(file_format: str) -> None:
    red, blue = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    data = encoded(red, file_format, save_all=True, append_images=[blue, red], duration=100)
    with Image.open(io.BytesIO(data)) as written:
        assert getattr(written, "n_frames", 1) == 3
    assert pixels(data).mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


def test_a_jpeg_of_a_phone_with_a_second_picture() -> None:
    data = encoded(Image.new("RGB", (20, 10), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    found = pixels(data)
    assert found.shape == (10, 20, 3)
    assert found.mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


def test_cmyk_jpeg() -> None:
    found = pixels(encoded(Image.new("CMYK", (20, 10), (0, 255, 255, 0)), "JPEG"))
    assert found.mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=5)


def test_16_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256).repeat(4, axis=0)
    found = pixels(png_of_array(ramp, GREY))
    assert np.abs(found[..., 0].astype(int) - (ramp >> 8)).max() <= 1
    assert np.array_equal(found[..., 0], found[..., 2])


def test_16_bit_rgb_keeps_its_range() -> None:
    deep = ((np.asarray(pattern()).astype(np.uint16) << 8) | 0x7F).astype(np.uint16)
    assert np.abs(pixels(png_of_array(deep, RGB)).astype(int) - np.asarray(pattern())).max() <= 1


@pytest.mark.parametrize("file_format", FORMATS)
def test_greyscale(file_format: str) -> None:
    found = pixels(encoded(pattern().convert("L"), file_format))
    assert np.abs(found.astype(int) - np.asarray(pattern().convert("L"))[..., None]).mean() < 3


def test_one_bit() -> None:
    found = pixels(encoded(pattern().convert("1"), "PNG"))
    assert set(np.unique(found)) == {0, 255}


def test_palette() -> None:
    palette = pattern().quantize(32)
    assert np.array_equal(pixels(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_shows_white() -> None:
    rgba = pattern().convert("RGBA")
    rgba.putalpha(0)
    assert (pixels(encoded(rgba, "PNG")) == 255).all()
    assert (pixels(encoded(rgba.convert("LA"), "PNG")) == 255).all()
    assert (pixels(encoded(rgba, "WEBP", lossless=True, exact=True)) == 255).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    found = pixels(encoded(image, "PNG", transparency=transparency))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [0, 0, 255]


def test_a_transparent_colour_of_rgb() -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    assert (pixels(encoded(image, "PNG", transparency=(10, 20, 30))) == 255).all()


# Orientation and the rest of EXIF

_SIDES = dict(enumerate(map(tuple, ("TL", "TR", "BR", "BL", "LT", "RT", "RB", "LB")), 1))
"""EXIF 2.32, tag 0x0112: which side of the scene the stored row 0 is, then the stored column 0."""


def stored_for(tag: int, upright: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The array to store with an orientation tag so that what is shown is `upright`; by the definition of the tag."""
    row_side, column_side = _SIDES[tag]
    turned = row_side in "LR"  # stored rows run along the scene's columns
    scene = upright.transpose(1, 0, 2) if turned else upright
    flip_rows, flip_columns = row_side in "BR", column_side in "BR"
    return scene[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def with_orientation(image: Image.Image, value: object, file_format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(image, file_format, exif=exif)


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation_is_applied_to_the_pixels(tag: int) -> None:
    upright = np.asarray(pattern())
    stored = Image.fromarray(np.ascontiguousarray(stored_for(tag, upright)))
    assert stored.size == ((48, 64) if tag >= 5 else (64, 48))
    assert np.array_equal(pixels(with_orientation(stored, tag)), upright)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_orientation_in_the_other_formats(file_format: str) -> None:
    assert pixels(with_orientation(pattern(), 6, file_format)).shape == (64, 48, 3)


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_a_wrong_orientation_tag_changes_nothing(tag: int) -> None:
    assert np.array_equal(pixels(with_orientation(pattern(), tag)), np.asarray(pattern()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_changes_nothing() -> None:
    data = encoded(pattern(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pixels(data).shape == (48, 64, 3)


def test_gps_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (24.0, 5.0, 0.0), 3: "E", 4: (32.0, 54.0, 0.0)})
    tagged, plain = encoded(pattern(), "JPEG", exif=exif), encoded(pattern(), "JPEG")
    assert tagged != plain

    def forbidden(*_: object) -> None:
        raise AssertionError("a directory of EXIF was read")

    monkeypatch.setattr(Image.Exif, "get_ifd", forbidden)
    assert np.array_equal(pixels(tagged), pixels(plain))


# The network's input


def preprocessing(fit: str, size: int = 32) -> Preprocessing:
    return Preprocessing.model_validate(
        {"size": size, "fit": fit, "resample": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2)}
    )


@pytest.mark.parametrize(
    ("fit", "size", "shape"),
    [
        ("squash", (64, 48), (3, 32, 32)),
        ("center_crop", (64, 48), (3, 32, 32)),
        ("center_crop", (1, 300), (3, 32, 32)),
        ("short_side", (64, 48), (3, 32, 42)),
        ("short_side", (48, 64), (3, 42, 32)),
        ("short_side", (1, 1), (3, 32, 32)),
    ],
)
def test_shapes(fit: str, size: tuple[int, int], shape: tuple[int, ...]) -> None:
    found = prepare(Image.new("RGB", size), preprocessing(fit))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


def test_values_are_scaled_by_mean_and_std() -> None:
    found = prepare(Image.new("RGB", (40, 40), (255, 0, 51)), preprocessing("squash"))
    assert found[:, 0, 0] == pytest.approx([(1 - 0.5) / 0.5, -0.4 / 0.25, (0.2 - 0.3) / 0.2], abs=1e-6)


def test_the_crop_is_from_the_middle() -> None:
    image = Image.new("RGB", (96, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    middle = prepare(image, preprocessing("center_crop"))
    assert middle[2, 16, 16] > middle[0, 16, 16]
    assert (middle[0, :, 2:-2] < 0).all()


# Large JPEGs


def large_jpeg(width: int = 1632, height: int = 1224) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 24, width // 24, 3), np.uint8))
    return encoded(coarse.resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("at_least", "size"),
    [(0, (1632, 1224)), (153, (204, 153)), (154, (408, 306)), (448, (816, 612)), (700, (1632, 1224))],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_has_the_pixels(at_least: int, size: tuple[int, int]) -> None:
    assert decode(large_jpeg(), at_least=at_least).size == size


def test_other_formats_are_decoded_at_their_size() -> None:
    assert decode(encoded(pattern(640, 480), "PNG"), at_least=32).size == (640, 480)
    assert decode(encoded(pattern(640, 480), "WEBP"), at_least=32).size == (640, 480)


def test_the_limit_counts_the_pixels_of_the_file_not_those_decoded() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(large_jpeg(), ImageLimits(max_pixels=1_000_000), at_least=64)
    assert caught.value.metadata["pixels"] == str(1632 * 1224)


def test_a_scaled_jpeg_is_turned_upright() -> None:
    turned = with_orientation(pattern(640, 480), 6, "JPEG")
    assert decode(turned, at_least=64).size == (60 * 2, 80 * 2)


def test_scaled_decoding_changes_the_input_little() -> None:
    scaled = preprocessing("squash", 64)
    full = scaled.model_copy(update={"jpeg": "full"})
    data = large_jpeg()
    assert scaled.decode_to == 128
    assert full.decode_to == 0
    near, exact = read_input(data, scaled), read_input(data, full)
    assert not np.array_equal(near, exact)
    assert np.abs(near - exact).mean() < 0.02


def test_what_a_bundle_says_of_jpegs_is_part_of_its_hash_only_where_it_is_not_the_default() -> None:
    plain = preprocessing("squash")
    assert "jpeg" not in plain.model_dump(mode="json")
    full = plain.model_copy(update={"jpeg": "full"})
    assert full.model_dump(mode="json")["jpeg"] == "full"
    assert Preprocessing.model_validate(full.model_dump()) == full
