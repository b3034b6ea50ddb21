"""Radii hold what they say on data like those that they were fitted on, and are ordered as probabilities are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from geofix.calibration import Calibration
from geofix.decision import DecisionRule
from geofix.geo import FloatArray
from geofix.linear import Linear
from geofix.radii import HALF_EARTH_KM, LEVELS, RadiusFit, RadiusFits, fit_radii, quantile_regression

Signals = list[dict[str, float]]


def answers(count: int, seed: int) -> tuple[Signals, FloatArray]:
    """Answers whose error is log-normal around a median that two signals predict; a third says nothing."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0, 3, count), rng.normal(size=count), rng.normal(size=count)
    error = np.exp(2 + a + 0.5 * b + rng.normal(scale=0.8, size=count))
    return [{"a": x, "b": y, "c": z} for x, y, z in zip(a, b, c, strict=True)], error


@pytest.fixture(scope="module")
def fit() -> RadiusFits:
    return fit_radii(*answers(8000, seed=1), names=("a", "b", "c"))


@pytest.mark.parametrize("level", [*LEVELS, 0.7, 0.85])
def test_coverage_on_new_answers(fit: RadiusFits, level: float) -> None:
    signals, error = answers(8000, seed=2)
    radius = np.array([fit.at(s, level) for s in signals])
    assert (error <= radius).mean() == pytest.approx(level, abs=0.02)


def test_coverage_holds_for_the_sure_and_the_unsure_alike(fit: RadiusFits) -> None:
    signals, error = answers(8000, seed=3)
    radius = np.array([fit.at(s, 0.9) for s in signals])
    order = np.argsort(radius)
    for part in np.array_split(order, 4):
        assert (error[part] <= radius[part]).mean() == pytest.approx(0.9, abs=0.035)
    assert radius[order[-800:]].mean() > 5 * radius[order[:800]].mean()


@settings(max_examples=200)
@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.5, 0.95), st.floats(0.5, 0.95))
def test_radii_grow_with_the_probability(fit: RadiusFits, a: float, b: float, p: float, q: float) -> None:
    signals = {"a": a, "b": b, "c": 0.0}
    low, high = sorted((p, q))
    assert 0 < fit.at(signals, low) <= fit.at(signals, high) <= HALF_EARTH_KM


def test_radii_grow_with_the_score(fit: RadiusFits) -> None:
    for one in fit.fits:
        assert list(one.radius_km) == sorted(one.radius_km)
        assert list(one.knots) == sorted(one.knots)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_regression_has_its_share_below_it_wherever_one_looks(level: float) -> None:
    """The noise widens with `a`, so that quantiles fan out; a column that says nothing gets nothing."""
    rng = np.random.default_rng(9)
    a, other = rng.uniform(0, 2, 20_000), rng.normal(size=20_000)
    y = 5 + (1 + a) * rng.normal(size=20_000)
    found = quantile_regression(np.column_stack([a, other]), y, level, ("a", "other"))
    z = {0.1: -1.2816, 0.5: 0.0, 0.9: 1.2816}[level]
    assert found.intercept == pytest.approx(5 + z, abs=0.1)
    assert found.coefficients == pytest.approx((z, 0.0), abs=0.1)
    below = y <= found.of_rows(np.column_stack([a, other]))
    for part in (a < 0.5, a > 1.5):
        assert below[part].mean() == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("probability", [0.0, 0.49, 0.951, 1.0, float("nan")])
def test_no_radius_beyond_the_levels(fit: RadiusFits, probability: float) -> None:
    with pytest.raises(ValueError, match="probability must be within"):
        fit.at({"a": 0.0, "b": 0.0, "c": 0.0}, probability)


def test_too_few_images_are_refused() -> None:
    signals, error = answers(399, seed=0)
    with pytest.raises(ValueError, match="at least 400 images, not 399"):
        fit_radii(signals, error, names=("a", "b"))
    fit_radii(*answers(400, seed=0), names=("a", "b"))


def test_a_signal_that_never_varies_does_no_harm() -> None:
    signals, error = answers(1000, seed=4)
    fit = fit_radii([s | {"c": 1.0} for s in signals], error, names=("a", "b", "c"), bins=5)
    assert np.isfinite(fit.at({"a": 1.0, "b": 0.0, "c": 1.0}, 0.9))


def test_perfect_answers_still_have_a_radius_above_zero() -> None:
    signals, error = answers(1000, seed=5)
    fit = fit_radii(signals, np.zeros_like(error), names=("a",), bins=5)
    assert fit.at(signals[0], 0.9) == pytest.approx(0.1)


def test_a_missing_signal_is_an_error(fit: RadiusFits) -> None:
    with pytest.raises(KeyError):
        fit.at({"a": 1.0}, 0.9)


def test_nothing_fitted_gives_no_radius_and_refuses_nothing() -> None:
    bare = Calibration(rule=DecisionRule())
    assert bare.radius_km({}, 0.9) is None
    assert bare.localizable({})


def test_the_gate_is_open_from_zero() -> None:
    gate = Linear(signals=("domain_score",), coefficients=(2.0,), intercept=-1.0)
    calibration = Calibration(rule=DecisionRule(), gate=gate)
    assert calibration.localizable({"domain_score": 0.5})
    assert not calibration.localizable({"domain_score": 0.499})


def test_it_survives_json(fit: RadiusFits) -> None:
    calibration = Calibration(rule=DecisionRule(), radius=fit, queries=8000, source="synthetic")
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_calibrations_in_the_older_form_are_read() -> None:
    """One score for all probabilities, as bundles have it that were calibrated before each had its own."""
    score = Linear(signals=("a",), coefficients=(1.0,), intercept=0.0)
    old = RadiusFit(score=score, knots=(0.0, 1.0), levels=(0.5, 0.9), radius_km=((10.0, 100.0), (100.0, 1000.0)))
    text = Calibration(rule=DecisionRule(), radius=old).model_dump_json(exclude={"abstention"})
    read = Calibration.model_validate_json(text)
    assert read.radius == old
    assert read.radius_km({"a": 0.5}, 0.9) == pytest.approx(10**2.5)
    assert read.radius_km({"a": 2.0}, 0.7) == pytest.approx(10**2.5)
    with pytest.raises(ValueError, match=r"within 0\.5 to 0\.9"):
        read.radius_km({"a": 0.5}, 0.95)


def test_one_coefficient_a_signal() -> None:
    with pytest.raises(ValidationError, match="one coefficient a signal"):
        Linear(signals=("a", "b"), coefficients=(1.0,), intercept=0.0)
