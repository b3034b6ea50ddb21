"""Gallery images that are near to everything count as less similar, by an offset that a search of unit vectors carries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geofix.geo import latlon_to_xyz
from geofix_training import hubs
from geofix_training.experiment import HubConfig
from geofix_training.hubs import EXTRA_VALUES, Widened, hubness, widened

pytestmark = pytest.mark.training


def unit(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def test_a_row_that_is_near_to_what_is_elsewhere_is_a_hub_and_its_own_place_does_not_count() -> None:
    # The first is like all the others, far apart; the last two are alike and of one place, across the antimeridian.
    rows = np.eye(5, 6, dtype=np.float32)
    rows[0] = 1 / np.sqrt(6)
    rows[4] = rows[3]
    xyz = latlon_to_xyz([0, 40, -40, 10, 10], [0, 60, 120, 179.9, -179.9])
    found = hubness(rows.astype(np.float16), xyz, HubConfig(neighbors=2, beyond_km=200), seed=0)
    near = np.array([1, 0.5, 0.5, 0.5, 0.5]) / np.sqrt(6)  # the mean of the two nearest elsewhere
    assert found == pytest.approx(near - near.mean(), abs=1e-3)


def test_a_gallery_of_one_place_has_no_hubs_and_a_row_with_little_elsewhere_is_told_by_that() -> None:
    rows = unit(4, 8, 1).astype(np.float16)
    here = latlon_to_xyz([0, 0.1, 0.2, 0.3], [0, 0, 0, 0])
    assert hubness(rows, here, HubConfig(), seed=0) == pytest.approx(0)
    rows[3] = rows[0]
    apart = latlon_to_xyz([0, 0.1, 0.2, 50], [0, 0, 0, 0])
    found = hubness(rows, apart, HubConfig(), seed=0)
    near = rows.astype(float) @ rows[3].astype(float)  # of the first three the last is all that is elsewhere
    near[3] = near[:3].mean()
    assert found == pytest.approx(near - near.mean(), abs=1e-3)


def test_the_similarity_of_a_row_is_lower_by_its_hubness() -> None:
    queries, rows = unit(7, 16, 1), unit(50, 16, 2)
    hub = np.random.default_rng(3).uniform(-0.3, 0.3, 50).astype(np.float32)
    config = HubConfig(strength=0.5)
    made = widened(rows.astype(np.float16), hub, config).astype(float)
    asked = Widened(torch.nn.Identity())(torch.from_numpy(queries)).numpy()
    assert made.shape == (50, 16 + EXTRA_VALUES)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=2e-3)
    assert np.linalg.norm(asked, axis=1) == pytest.approx(1, abs=1e-5)
    expected = (1 - hubs.C**2) * (queries @ rows.T - 0.5 * hub)
    assert asked @ made.T == pytest.approx(expected, abs=2e-3)


def test_an_offset_that_does_not_fit_is_as_large_as_fits() -> None:
    made = widened(unit(2, 8, 1).astype(np.float16), np.array([1.0, -1.0], np.float32), HubConfig(strength=1)).astype(
        float
    )
    assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=2e-3)
    assert made[:, -2] == pytest.approx([-hubs.C, hubs.C], abs=1e-3)
    assert made[:, -1] == pytest.approx(0, abs=1e-3)


def test_in_a_large_gallery_a_sample_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, xyz = unit(4000, 8, 1), unit(4000, 3, 2).astype(float)
    rows[:, 0] += np.linspace(0, 3, 4000)  # ever more alike
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    whole = hubness(rows, xyz, HubConfig(), seed=0)
    monkeypatch.setattr(hubs, "REFERENCES", 2000)
    sampled = hubness(rows, xyz, HubConfig(), seed=0)
    assert np.corrcoef(whole, sampled)[0, 1] > 0.9
    assert np.array_equal(sampled, hubness(rows, xyz, HubConfig(), seed=0))
