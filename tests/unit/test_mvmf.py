"""The mixture of von Mises-Fisher distributions against outputs of the published reference (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geofix.geo import destination, haversine_km, latlon_to_xyz, normalise
from geofix.mvmf import density_plus_1e9, log_density, log_normaliser, log_softmax, log_vmf, logsumexp

Golden = dict[str, NDArray[Any]]
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(params=["sharp", "broad"])
def golden(request: pytest.FixtureRequest) -> Golden:
    with np.load(DATA / f"mvmf_{request.param}.npz") as data:
        return dict(data)


def tolerance(golden: Golden) -> NDArray[np.float64]:
    return np.asarray(1e-6 * np.maximum(1, np.abs(golden["log_density_exact"])), float)


def test_log_density_is_exact(golden: Golden) -> None:
    found = log_density(
        latlon_to_xyz(*golden["targets_latlon"].T),
        latlon_to_xyz(*golden["mus_latlon"].T),
        np.exp(golden["log_kappa"]),
        np.log(golden["mixture_weights"]),
    )
    assert np.isfinite(found).all()
    assert np.all(np.abs(found - golden["log_density_exact"]) <= tolerance(golden))


def test_the_floored_formula_is_the_reference_and_fails_far_away() -> None:
    """The published code adds 1e-9 under the logarithm; away from the components nothing else is left of its density."""
    with np.load(DATA / "mvmf_sharp.npz") as data:
        golden = dict(data)
    places, means = latlon_to_xyz(*golden["targets_latlon"].T), latlon_to_xyz(*golden["mus_latlon"].T)
    kappa = np.exp(golden["log_kappa"])
    floored = density_plus_1e9(places, means, kappa, golden["mixture_weights"])
    assert floored == pytest.approx(np.log(golden["density_plus_1e9"]), abs=1e-6)
    wrong = np.abs(floored - golden["log_density_exact"]) > tolerance(golden)
    assert wrong.mean() > 0.3
    far = golden["target_offset_km"] > 100
    assert (floored[far] == np.log(1e-9)).mean() > 0.9  # constant: no gradient leads back


def test_mixture_weights_and_the_classifiers_prediction(golden: Golden) -> None:
    logits = golden["features"] @ golden["linear_weight"].T + golden["linear_bias"]
    log_weights = log_softmax(logits)
    assert np.exp(log_weights) == pytest.approx(golden["mixture_weights"], abs=1e-6)
    best = golden["mus_latlon"][log_weights.argmax(axis=1)]
    assert haversine_km(*best.T, *golden["argmax_prediction_latlon"].T) == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 50.0, 3e4])
def test_the_density_integrates_to_one(kappa: float) -> None:
    rng = np.random.default_rng(0)
    mu = normalise(rng.normal(size=(1, 3)))
    # Over t = 1 − cos of the angle, by the sphere's symmetry: ∫ p dΩ = 2π ∫ p(t) dt, with t on a grid that follows κ.
    t = np.concatenate([[0.0], np.geomspace(1e-9, 2, 200_001)])
    density = np.exp(log_normaliser(kappa) - kappa * t)
    assert 2 * np.pi * np.trapezoid(density, t) == pytest.approx(1, abs=1e-3)
    assert float(log_vmf(mu, mu, [kappa])[0, 0]) == pytest.approx(float(log_normaliser(kappa)), abs=1e-12)


def test_a_tenth_of_a_kilometre_counts_at_the_published_kappa() -> None:
    here = latlon_to_xyz(48.0, 2.0)[None]
    lat, lon = destination(48.0, 2.0, 90.0, np.array([0.1, 0.2]))
    near = log_vmf(latlon_to_xyz(lat, lon), here, [np.exp(16)])[:, 0]
    assert near[0] - near[1] == pytest.approx(
        np.exp(16) / 2 * ((0.2 / 6371.0088) ** 2 - (0.1 / 6371.0088) ** 2), rel=1e-4
    )


def test_logsumexp_of_nothing_is_minus_infinity() -> None:
    assert logsumexp(np.array([[-np.inf, -np.inf], [0.0, -np.inf]])).tolist() == [-np.inf, 0.0]
    assert logsumexp(np.array([1e5, 1e5])) == pytest.approx(1e5 + np.log(2))


def test_log_softmax_survives_large_logits() -> None:
    assert log_softmax([1e4, 0.0, -1e4]).tolist() == [0.0, -1e4, -2e4]
