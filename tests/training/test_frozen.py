"""The parts of a frozen backbone's feature: how many components each kind keeps, and what share of a cosine it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from geofix_training.experiment import BackboneConfig
from geofix_training.frozen import Mix, fit_white
from geofix_training.reduction import fit_reduction
from geofix_training.rounding import whole_numbers

PREPROCESSING = {"size": 32, "fit": "squash", "resample": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
ROWS, KINDS = 400, (30, 30, 20)


def config(**beside: Any) -> BackboneConfig:
    return BackboneConfig.model_validate({"timm": "any", "components": 6, "preprocessing": PREPROCESSING} | beside)


def unit(count: int, dim: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(dim)), dim=1)


def statistics() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.3, size=(ROWS, sum(KINDS))).astype(np.float16)


def test_a_cosine_of_features_is_the_sum_of_what_each_part_says() -> None:
    given = config(
        kinds={"mean": {"weight": 4}, "stages": {"weight": 2}}, beside=[{"timm": "other"}], adapt={"share": 0.25}
    )
    parts, taught = [unit(2, dim) for dim in (5, 6, 7, 5, 6, 8)], unit(2, 9)
    cosines = [float(part[0] @ part[1]) for part in parts]
    kinds = sum(weight * one for weight, one in zip([4, 1, 2] * 2, cosines, strict=True)) / 14
    feature = Mix.of(given).feature(parts, taught)
    assert torch.linalg.vector_norm(feature, dim=1).numpy() == pytest.approx(np.sqrt([46.0, 46.0]), rel=1e-5)
    assert float(feature[0] @ feature[1]) / 46 == pytest.approx(
        0.75 * kinds + 0.25 * float(taught[0] @ taught[1]), abs=1e-6
    )
    alone = Mix.of(config(beside=[{"timm": "other"}])).feature(parts, None)
    assert float(alone[0] @ alone[1]) / 37 == pytest.approx(float(np.mean(cosines)), abs=1e-6)


def test_each_kind_keeps_the_components_that_it_was_given() -> None:
    rows = np.arange(ROWS)
    white = fit_white(
        statistics(), rows, KINDS, config(kinds={"mean": {"components": 12}, "stages": {"components": 99}}), 1
    )
    assert [kind.shape[1] for kind in white(torch.from_numpy(statistics().astype(np.float32)))] == [12, 6, 20]
    assert all(whole_numbers(matrix.numpy()) is None for matrix in white.matrices)


def test_eight_bits_hold_the_components_too() -> None:
    rows, given = np.arange(ROWS), torch.from_numpy(statistics().astype(np.float32))
    exact, rounded = (fit_white(statistics(), rows, KINDS, config(weight_bits=bits), 1) for bits in (16, 8))
    assert all(whole_numbers(matrix.numpy()) is not None for matrix in rounded.matrices)
    for a, b in zip(exact(given), rounded(given), strict=True):
        assert float((a * b).sum(dim=1).min()) > 0.999


def test_what_is_clipped_keeps_a_mean_of_zero() -> None:
    """Statistics of one sign are skewed: clipped from above alone, their mean would be below what it was."""
    values = statistics().astype(np.float32)
    fitted = fit_reduction([statistics()], 5, 1, clip=1.5)
    clipped = np.clip((values - fitted.mean) / fitted.scale, -1.5, 1.5)
    assert np.abs(clipped.mean(axis=0)).max() < 0.02
    once = np.clip((values - values.mean(axis=0)) / values.std(axis=0), -1.5, 1.5)
    assert np.abs(once.mean(axis=0)).min() > 0.05


def test_a_share_of_all_or_nothing_is_refused() -> None:
    for wrong in ({"adapt": {"share": 1.0}}, {"kinds": {"gem": {"weight": 0}}}, {"clip": 0}):
        with pytest.raises(ValidationError):
            config(**wrong)
