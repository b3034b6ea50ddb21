"""Vectorised S2 ids against the package `s2cell`, which computes one place at a time."""

from __future__ import annotations

import numpy as np
import pytest
import s2cell
from hypothesis import given
from hypothesis import strategies as st

from geofix.geo import normalise, xyz_to_latlon
from geofix.s2 import leaf_ids, parents

lat, lon = xyz_to_latlon(normalise(np.random.default_rng(0).normal(size=(500, 3))))


def test_leaves_are_those_of_s2cell() -> None:
    wanted = [s2cell.lat_lon_to_cell_id(a, o) for a, o in zip(lat.tolist(), lon.tolist(), strict=True)]
    assert leaf_ids(lat, lon).tolist() == wanted


@given(
    st.sampled_from([-90, -45, 0, 35.264389682754654, 45, 90]), st.sampled_from([-180, -135, -90, -45, 0, 45, 90, 180])
)
def test_on_edges_and_poles_too(a: float, o: float) -> None:
    assert int(leaf_ids([a], [o])[0]) == s2cell.lat_lon_to_cell_id(a, o)


@pytest.mark.parametrize("level", [0, 1, 7, 29, 30])
def test_parents_are_those_of_s2cell(level: int) -> None:
    wanted = [s2cell.lat_lon_to_cell_id(a, o, level) for a, o in zip(lat.tolist(), lon.tolist(), strict=True)]
    assert parents(leaf_ids(lat, lon), level).tolist() == wanted
