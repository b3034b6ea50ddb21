"""Which answers to withhold: the curve over the surest answers, and how well sureness and rightness agree."""

from __future__ import annotations

import math

import pytest

from geofix.abstention import auroc, risk_coverage
from geofix.evaluation import Outcome
from geofix.geo import EARTH_RADIUS_KM


def off_by(km: float, radius_km: float) -> Outcome:
    return Outcome((0.0, 0.0), 0.0, math.degrees(km / EARTH_RADIUS_KM), True, {0.5: radius_km, 0.9: 9 * radius_km})


UNPLACED = Outcome((0.0, 0.0))


def test_the_surest_answers_come_first() -> None:
    outcomes = [off_by(1000, 400), off_by(10, 50), off_by(100, 100), off_by(900, 200), off_by(50, 300)]
    found = risk_coverage(outcomes + outcomes)
    assert found is not None
    assert found.right == {10: 100, 20: 100, 30: 100, 50: pytest.approx(80), 70: pytest.approx(500 / 7), 100: 60}
    assert found.auroc == pytest.approx(5 / 6)
    near = risk_coverage(outcomes, within_km=20)
    assert near is not None
    assert near.right[20] == 100
    assert near.right[100] == 20


def test_shares_are_of_all_images() -> None:
    found = risk_coverage([off_by(10, 50)] * 3 + [UNPLACED] * 7)
    assert found is not None
    assert found.right == {10: 100, 20: 100, 30: 100}, "nothing is said of shares that there are no answers for"
    assert found.auroc is None
    assert found.record()["auroc"] is None


def test_without_radii_there_is_no_curve() -> None:
    assert risk_coverage([UNPLACED, Outcome((0.0, 0.0), 1.0, 1.0, True)]) is None


@pytest.mark.parametrize(
    ("score", "positive", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([5, 5, 5, 5], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 1, 0, 1], 0.875),
        ([1, 2], [1, 1], None),
        ([], [], None),
    ],
)
def test_auroc(score: list[float], positive: list[int], expected: float | None) -> None:
    assert auroc(score, positive) == (None if expected is None else pytest.approx(expected))
