"""The partition: it survives its file, and every place on Earth has a cell, whether or not its area was dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s2cell
from hypothesis import given
from hypothesis import strategies as st

from bundle_factory import make_bundle
from geofix.cells import Cells
from geofix.geo import FloatArray, latlon_to_xyz

LATS = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 45.0, -45.0]))
LONS = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, 45.0, -45.0, 135.0]))
EDGES = [(lat, lon) for lat in (-90.0, -45.0, 0.0, 45.0, 90.0) for lon in (-180.0, -135.0, -45.0, 0.0, 90.0, 180.0)]


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """30 cells of two levels that cover the Earth."""
    return make_bundle(tmp_path_factory.mktemp("bundle"), gallery_rows=10).cells


def some_of(cells: Cells, rows: list[int], kappa: FloatArray | None = None) -> Cells:
    return Cells(
        tuple(cells.s2_tokens[row] for row in rows),
        cells.xyz[rows],
        cells.kappa[rows] if kappa is None else kappa,
        cells.images[rows],
    )


def random_places(count: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)


def densest(cells: Cells, lat: float, lon: float) -> int:
    """The component of highest density at a place, by the formula of the von Mises-Fisher distribution."""
    place = latlon_to_xyz(lat, lon)
    log_density = [
        np.log(k / (2 * np.pi * (1 - np.exp(-2 * k)))) + k * (float(place @ mean) - 1)
        for mean, k in zip(cells.xyz, cells.kappa, strict=True)
    ]
    return int(np.argmax(log_density))


def test_cells_survive_their_file(earth: Cells, tmp_path: Path) -> None:
    tokens = (*earth.s2_tokens[:-2], earth.s2_tokens[-2] + earth.s2_tokens[-1])
    rng = np.random.default_rng(1)
    written = Cells(tokens, earth.xyz[:-1], rng.uniform(1, 1e7, 29), rng.integers(1, 10**12, 29))
    written.write(tmp_path / "cells.parquet")
    read = Cells.read(tmp_path / "cells.parquet")
    assert len(read) == 29
    assert read.s2_tokens == written.s2_tokens
    assert np.abs(read.xyz - written.xyz).max() < 1e-14
    assert np.array_equal(read.kappa, written.kappa)
    assert np.array_equal(read.images, written.images)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cell_id", 7, "must count from 0"),
        ("kappa", 0.0, "kappa must be positive"),
        ("kappa", -1.0, "kappa must be positive"),
        ("kappa", float("nan"), "kappa must be positive"),
        ("kappa", float("inf"), "kappa must be positive"),
        ("lat", 90.5, "every lat within ±90"),
        ("lat", float("nan"), "every lat within ±90"),
        ("lon", float("nan"), "every lon finite"),
    ],
)
def test_a_table_with_a_wrong_value_is_refused(
    earth: Cells, tmp_path: Path, column: str, value: Any, message: str
) -> None:
    path = tmp_path / "cells.parquet"
    earth.write(path)
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[3] = value
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, column, pa.array(values, table.schema.field(column).type)), path)
    with pytest.raises(ValueError, match=message):
        Cells.read(path)


@given(LATS, LONS)
def test_every_place_lies_in_the_cell_that_contains_it(earth: Cells, lat: float, lon: float) -> None:
    cell = earth.containing(lat, lon)
    assert cell is not None
    (token,) = earth.s2_tokens[cell]
    area = s2cell.token_to_cell_id(token)
    assert s2cell.lat_lon_to_cell_id(lat, lon, s2cell.cell_id_to_level(area)) == area
    assert earth.assign([lat], [lon]).tolist() == [cell]


@pytest.mark.parametrize(("lat", "lon"), EDGES)
def test_poles_antimeridian_and_corners_have_a_cell(earth: Cells, lat: float, lon: float) -> None:
    assert earth.containing(lat, lon) is not None
    assert 0 <= earth.assign(lat, lon)[0] < 30


def test_places_at_a_mean_belong_to_its_cell(earth: Cells) -> None:
    centres = [s2cell.token_to_lat_lon(tokens[0]) for tokens in earth.s2_tokens]
    lat, lon = np.array(centres).T
    assert earth.assign(lat, lon).tolist() == list(range(30))


def test_a_cell_of_several_areas_contains_them_all(earth: Cells) -> None:
    merged = Cells(
        (sum(earth.s2_tokens[:5], ()), *earth.s2_tokens[5:]), earth.xyz[4:], earth.kappa[4:], earth.images[4:]
    )
    for tokens in earth.s2_tokens[:5]:
        assert merged.containing(*s2cell.token_to_lat_lon(tokens[0])) == 0


def test_a_leaf_is_a_cell_too(earth: Cells) -> None:
    token = s2cell.cell_id_to_token(s2cell.lat_lon_to_cell_id(48.0, 11.0))
    leaf = Cells((*earth.s2_tokens[:1], (token,)), earth.xyz[:2], earth.kappa[:2], earth.images[:2])
    assert leaf.containing(48.0, 11.0) == 1
    assert leaf.containing(48.1, 11.0) is None


@given(LATS, LONS, st.integers(0, 1000))
def test_where_an_area_was_dropped_the_highest_density_takes_over(
    earth: Cells, lat: float, lon: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = sorted(rng.choice(30, 12, replace=False).tolist())
    kept = some_of(earth, rows, np.exp(rng.uniform(0, 8, 12)))
    inside = kept.containing(lat, lon)
    assert inside == (rows.index(cell) if (cell := earth.containing(lat, lon)) in rows else None)
    assert kept.assign([lat], [lon]).tolist() == [densest(kept, lat, lon) if inside is None else inside]


def test_the_highest_density_is_not_always_the_nearest_mean() -> None:
    sharp_and_near, broad_and_far = latlon_to_xyz(0.0, 10.0), latlon_to_xyz(0.0, 30.0)
    two = Cells((("9",), ("b",)), np.stack([sharp_and_near, broad_and_far]), np.array([1e5, 2.0]), np.array([1, 1]))
    assert two.containing(0.0, -5.0) is None
    assert two.assign(0.0, -5.0).tolist() == [1]


def test_many_places_at_once_are_assigned_as_each_alone(earth: Cells) -> None:
    kept = some_of(earth, list(range(0, 30, 3)))
    lat, lon = random_places(7000)
    together = kept.assign(lat, lon)
    assert together.dtype == np.int32
    assert together.min() >= 0
    lost = np.flatnonzero([kept.containing(a, o) is None for a, o in zip(lat, lon, strict=True)])
    assert len(lost) > 2 * 2048
    for row in lost[::40]:
        assert together[row] == densest(kept, lat[row], lon[row])


def test_no_places_have_no_cells(earth: Cells) -> None:
    assert earth.assign([], []).tolist() == []
