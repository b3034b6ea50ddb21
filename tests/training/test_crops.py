"""Rasters, crops and damage: on a drawn Earth whose every pixel says where it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from geofix.errors import InvalidInput
from geofix.geo import EARTH_RADIUS_KM, distance_km, latlon_to_xyz, normalise
from geofix_training.crops import View, land_grid, render, sample_centres
from geofix_training.damage import damage
from geofix_training.features import random_views
from geofix_training.raster import TILE, Raster, open_raster

WIDTH = 2048


def coloured(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The unit vector of a place as a colour."""
    return np.round((latlon_to_xyz(lat, lon) + 1) * 127.5).astype(np.uint8)


def place_of(colour: NDArray[np.uint8]) -> NDArray[np.float64]:
    return normalise(colour.astype(float) / 127.5 - 1)


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Raster:
    """Equirectangular."""
    lat = 90 - (np.arange(WIDTH // 2) + 0.5) / WIDTH * 360
    lon = (np.arange(WIDTH) + 0.5) / WIDTH * 360 - 180
    path = tmp_path_factory.mktemp("earth") / "earth.png"
    Image.fromarray(coloured(*np.meshgrid(lat, lon, indexing="ij"))).save(path)
    return open_raster(path)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Raster:
    """Web Mercator at zoom 3, all rows."""
    path = tmp_path_factory.mktemp("tiles") / "earth.mbtiles"
    side = 8 * TILE
    lon = (np.arange(side) + 0.5) / side * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (np.arange(side) + 0.5) / side))))
    pixels = coloured(*np.meshgrid(lat, lon, indexing="ij"))
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
    for row in range(8):
        for column in range(8):
            tile = pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            database.execute("INSERT INTO tiles VALUES (3, ?, ?, ?)", (column, 7 - row, png(tile)))
    database.commit()
    database.close()
    return open_raster(path)


def png(pixels: NDArray[np.uint8]) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@settings(max_examples=60)
@given(
    lat=st.floats(-75, 75), lon=st.floats(-180, 180), km=st.floats(150, 1500), turn=st.floats(-20, 20), data=st.data()
)
def test_a_crop_shows_its_place_at_its_scale(
    earth: Raster, tiles: Raster, lat: float, lon: float, km: float, turn: float, data: st.DataObject
) -> None:
    raster = data.draw(st.sampled_from([earth, tiles]))
    pixels = render(raster, View(lat, lon, km, turn), 64)
    centre = normalise(place_of(pixels[31:33, 31:33].reshape(-1, 3)).mean(axis=0))
    # A colour step is 50 km, and a pixel of the raster 20.
    assert distance_km(centre, latlon_to_xyz(lat, lon)) < 80
    corners = place_of(pixels[[0, 0, -1, -1], [0, -1, 0, -1]])
    away = distance_km(corners, latlon_to_xyz(lat, lon))
    assert away == pytest.approx(np.full(4, km / 2 * np.sqrt(2) * 63 / 64), abs=100)


def test_up_is_north_and_rotation_turns_it(earth: Raster) -> None:
    here = latlon_to_xyz(20.0, 30.0)
    upright = place_of(render(earth, View(20.0, 30.0, 1500.0, 0.0), 64)[[0, 32], [32, 0]])
    assert np.degrees(np.arcsin(upright[0, 2])) > 25  # the top lies in the north
    assert np.degrees(np.arctan2(upright[1, 1], upright[1, 0])) < 25  # the left in the west
    turned = place_of(render(earth, View(20.0, 30.0, 1500.0, 90.0), 64)[[0], [32]])[0]
    assert abs(np.degrees(np.arcsin(turned[2])) - 20) < 2
    assert distance_km(turned, here) == pytest.approx(738, abs=80)


def test_both_projections_show_the_same(earth: Raster, tiles: Raster) -> None:
    view = View(-35.0, 179.5, 900.0, 12.0)
    assert np.abs(render(earth, view, 64).astype(int) - render(tiles, view, 64)).max() <= 3


def test_where_the_raster_ends_it_is_black(tiles: Raster) -> None:
    pixels = render(tiles, View(85.0, 0.0, 600.0, 0.0), 32)
    assert not pixels[0].any()
    assert pixels[-1].any()


def land_only_in_the_north(tmp_path: Path) -> Raster:
    pixels = np.zeros((512, 1024, 3), np.uint8)
    pixels[:256] = (90, 120, 40)
    pixels[256:] = (10, 20, 80)
    Image.fromarray(pixels).save(tmp_path / "half.png")
    return open_raster(tmp_path / "half.png")


def test_centres_are_uniform_over_land(tmp_path: Path) -> None:
    raster = land_only_in_the_north(tmp_path)
    lat, lon = sample_centres(raster, 20_000, np.random.default_rng(0))
    assert lat.min() > -1
    height = np.sin(np.radians(lat))
    assert np.mean(height) == pytest.approx(np.sin(np.radians(76)) / 2, abs=0.01)  # even in area, not in degrees
    assert np.histogram(lon, 4, (-180, 180))[0].min() > 4_700


def test_the_grid_has_its_spacing(tmp_path: Path) -> None:
    lat, lon = land_grid(land_only_in_the_north(tmp_path), 300.0)
    area = 2 * np.pi * EARTH_RADIUS_KM**2 * np.sin(np.radians(76))
    assert len(lat) == pytest.approx(area / 300**2, rel=0.05)
    xyz = latlon_to_xyz(lat, lon)
    nearest = [np.partition(distance_km(xyz, here), 1)[1] for here in xyz[::20]]
    assert min(nearest) > 200
    assert max(nearest) < 400


def test_an_earth_without_land_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (1024, 512), (10, 20, 80)).save(tmp_path / "sea.png")
    with pytest.raises(InvalidInput, match="next to no land"):
        sample_centres(open_raster(tmp_path / "sea.png"), 10, np.random.default_rng(0))


def test_fewer_views_are_the_first_of_more(earth: Raster) -> None:
    more = random_views(earth, 50, (150.0, 1500.0), 20.0, 3)
    assert random_views(earth, 20, (150.0, 1500.0), 20.0, 3) == more[:20]
    assert random_views(earth, 20, (150.0, 1500.0), 20.0, 4) != more[:20]
    assert all(150 <= v.footprint_km <= 1500 and abs(v.rotation_deg) <= 20 for v in more)


def test_damage_is_seeded_and_leaves_the_original(earth: Raster) -> None:
    pixels = render(earth, View(10.0, 10.0, 900.0, 0.0), 64)
    before = pixels.copy()
    results = [damage(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(pixels, before)
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    assert results[0].dtype == np.uint8
    assert results[0].shape == pixels.shape


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and no more", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_raster_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "raster"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="raster"):
        open_raster(path)


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "square.png")
    with pytest.raises(InvalidInput, match="twice as wide as high"):
        open_raster(tmp_path / "square.png")
