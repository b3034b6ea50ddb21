"""Gallery embeddings that are averaged with those of their place."""

from __future__ import annotations

import numpy as np
import pytest

from geofix.geo import latlon_to_xyz
from geofix_training.augment import augmented
from geofix_training.experiment import AugmentConfig


def test_an_embedding_moves_towards_its_place_and_most_towards_what_is_like_it() -> None:
    # Three pictures of one place across the antimeridian, one of another place, all at right angles but for the first two.
    given = np.eye(4, dtype=np.float16)
    given[1] = [0.6, 0.8, 0, 0]
    xyz = latlon_to_xyz([0, 0, 0, 10], [179.95, -179.95, 179.95, 0])
    found = augmented(given, xyz, AugmentConfig(within_km=25, share=0.5, temperature=0.3)).astype(float)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=2e-3)
    assert found[3] == pytest.approx(given[3]), "alone at its place"
    weight = np.exp(np.array([0.6, 0.0]) / 0.3)
    mixed = np.array([1.0, 0, 0, 0]) + 0.5 * (weight @ given[1:3].astype(float)) / weight.sum()
    assert found[0] == pytest.approx(mixed / np.linalg.norm(mixed), abs=2e-3)
    assert found[0] @ found[1] > 0.6
    apart = augmented(given, xyz, AugmentConfig(within_km=5))
    assert apart[1] == pytest.approx(given[1]), "11 km from the others"
