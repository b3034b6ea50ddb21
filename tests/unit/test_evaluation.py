"""Metrics as their definitions say, with nothing left out: failures are misses, guesses count, coverage is over radii."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.evaluation import (
    FAILED_KM,
    GEOSCORE_KM,
    WITHIN_KM,
    Outcome,
    errors_km,
    gain,
    geoscore,
    intervals,
    summarise,
)
from geofix.geo import EARTH_RADIUS_KM, destination

RADII = {0.5: 100.0, 0.9: 1000.0}


def off_by(km: float, *, localizable: bool = True, radii: dict[float, float] | None = None) -> Outcome:
    """An answer so many km from the truth."""
    lat, lon = destination(10.0, 20.0, 30.0, km)
    return Outcome((10.0, 20.0), float(lat), float(lon), localizable, radii or {})


FAILED = Outcome((10.0, 20.0))


@pytest.mark.parametrize(
    ("km", "score"), [(0.0, 5000.0), (GEOSCORE_KM, 5000 / math.e), (1000.0, 2558.8), (20_015.0, 0.0075)]
)
def test_geoscore_of_known_errors(km: float, score: float) -> None:
    assert geoscore(np.array([km]))[0] == pytest.approx(score, rel=1e-2 if km > 20_000 else 1e-4)


@given(st.lists(st.floats(0, FAILED_KM), min_size=2, max_size=20))
def test_geoscore_falls_with_the_error_and_stays_in_its_range(errors: list[float]) -> None:
    scores = geoscore(np.sort(np.array(errors)))
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0).all()
    assert (scores <= 5000).all()


def test_errors_are_great_circles() -> None:
    quarter = math.pi / 2 * EARTH_RADIUS_KM
    outcomes = [
        Outcome((0, 0), 0, 90),
        Outcome((0, 179.5), 0, -179.5),
        Outcome((90, 0), 90, 77),
        Outcome((0, 0), 90, 0),
    ]
    assert errors_km(outcomes) == pytest.approx([quarter, quarter / 90, 0, quarter], abs=1e-9)


def test_an_answer_at_zero_zero_is_an_answer() -> None:
    found = summarise([Outcome((0.0, 0.0), 0.0, 0.0, True)])
    assert found.failed == 0
    assert found.mean_km == 0
    assert found.geoscore == 5000


def test_a_failed_image_is_a_miss_at_half_the_earth() -> None:
    found = summarise([off_by(10), off_by(10), FAILED])
    assert (found.n, found.failed, found.localizable) == (3, 1, 2)
    assert found.mean_km == pytest.approx((10 + 10 + 20_015) / 3)
    assert found.median_km == pytest.approx(10)
    assert found.within[25] == pytest.approx(200 / 3)
    assert found.within[2500] == pytest.approx(200 / 3)
    assert found.geoscore == pytest.approx(2 / 3 * 5000 * math.exp(-10 / 1492.7), abs=0.01)


def test_of_nothing_but_failures_everything_is_missed() -> None:
    found = summarise([FAILED, FAILED])
    assert found.failed == found.n == 2
    assert found.median_km == FAILED_KM
    assert set(found.within.values()) == {0.0}
    assert found.geoscore < 0.01
    assert found.radius_share == 0


def test_a_not_localizable_answer_counts_with_its_guess() -> None:
    found = summarise([off_by(100, localizable=False), off_by(300)])
    assert (found.failed, found.localizable) == (0, 1)
    assert found.mean_km == pytest.approx(200)
    assert found.within[200] == 50


def test_within_includes_the_distance_itself() -> None:
    found = summarise([off_by(km * 0.999) for km in WITHIN_KM] + [off_by(km * 1.001) for km in WITHIN_KM])
    assert list(found.within.values()) == pytest.approx([100 * (2 * n + 1) / 12 for n in range(6)])
    exact = Outcome((0.0, 0.0), 0.0, math.degrees(25 / EARTH_RADIUS_KM))
    assert errors_km([exact])[0] == pytest.approx(25, abs=1e-9)


@given(st.lists(st.floats(0, 19_000), min_size=1, max_size=15))
def test_within_grows_with_the_distance(errors: list[float]) -> None:
    shares = list(summarise([off_by(km) for km in errors]).within.values())
    assert shares == sorted(shares)
    assert all(0 <= share <= 100 for share in shares)


def test_the_median_of_an_even_number_is_the_middle() -> None:
    assert summarise([off_by(km) for km in (1, 2, 4, 1000)]).median_km == pytest.approx(3)


def test_coverage_is_over_the_answers_with_a_radius() -> None:
    outcomes = [off_by(50, radii=RADII), off_by(500, radii=RADII), off_by(5000, radii=RADII), off_by(1), FAILED]
    found = summarise(outcomes)
    assert found.coverage == {50: pytest.approx(100 / 3), 80: None, 90: pytest.approx(200 / 3), 95: None}
    assert found.radius_share == 60
    assert found.radius_km == {50: 100, 80: None, 90: 1000, 95: None}


def test_a_truth_on_the_circle_is_inside() -> None:
    answer = off_by(500)
    error = float(errors_km([answer])[0])
    inside = Outcome(answer.truth, answer.lat, answer.lon, True, {0.9: error})
    outside = Outcome(answer.truth, answer.lat, answer.lon, True, {0.9: error - 1e-6})
    assert summarise([inside, outside]).coverage[90] == 50


def test_without_radii_there_is_no_coverage() -> None:
    found = summarise([off_by(10), FAILED])
    assert set(found.coverage.values()) == {None}
    assert set(found.radius_km.values()) == {None}
    assert found.radius_share == 0


def test_each_level_has_its_own_coverage() -> None:
    found = summarise([off_by(10, radii={0.9: 20.0}), off_by(10, radii={0.5: 5.0, 0.9: 30.0})])
    assert found.coverage == {50: 0, 80: None, 90: 100, 95: None}
    assert found.radius_km == {50: 5, 80: None, 90: 25, 95: None}


def test_nothing_cannot_be_evaluated() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        summarise([])


def test_the_record_is_json_with_the_promised_keys() -> None:
    record = json.loads(json.dumps(summarise([off_by(50, radii=RADII), FAILED]).record(), allow_nan=False))
    assert record["n"] == 2
    assert record["failed"] == 1
    assert record["localizable"] == 1
    assert record["localizable_share"] == 50
    assert record["within"] == {"0.1": 0, "1": 0, "25": 0, "200": 50, "750": 50, "2500": 50}
    assert record["median_km"] == pytest.approx((50 + 20_015) / 2)
    assert record["coverage"] == {"50": 100, "80": None, "90": 100, "95": None}
    assert record["median_radius_km"] == 1000
    assert record["median_radius_50_km"] == 100
    assert record["radius_share"] == 50


def test_the_record_says_null_where_there_is_no_radius() -> None:
    record = summarise([FAILED]).record()
    assert record["median_radius_km"] is None
    assert record["coverage"] == dict.fromkeys(("50", "80", "90", "95"))


def test_clusters_count_over_the_localizable_answers() -> None:
    place = (0.0, 0.0)
    outcomes = [
        Outcome(place, 0.0, 0.0, localizable=True, largest_cluster=3),
        Outcome(place, 0.0, 0.0, localizable=True, largest_cluster=2),
        Outcome(place, 0.0, 0.0, localizable=False, largest_cluster=9),
        FAILED,
    ]
    assert summarise(outcomes).clustered_share == 50
    assert summarise([FAILED]).clustered_share is None


def test_the_gain_is_paired() -> None:
    """Two strategies that differ on few images, always the same way, differ surely; unpaired they would not."""
    theirs = np.array([10.0, 300.0] * 100)
    ours = theirs.copy()
    ours[1:60:2] = 100.0
    found = gain(ours, theirs)
    assert found.points == pytest.approx(15)
    assert 9 < found.low < 13 < 17 < found.high < 21
    assert gain(theirs, ours).high < 0
    places = np.repeat(np.arange(50), 4).tolist()
    assert gain(ours, theirs, places=places).points == found.points
    wide = gain(np.repeat(ours, 4), np.repeat(theirs, 4), places=np.repeat(np.arange(200), 4).tolist())
    narrow = gain(np.repeat(ours, 4), np.repeat(theirs, 4))
    assert wide.high - wide.low == pytest.approx(found.high - found.low, rel=0.1)  # four views of a place are one place
    assert wide.high - wide.low == pytest.approx(2 * (narrow.high - narrow.low), rel=0.1)
    assert gain(ours, ours).record() == {"within_km": 200, "points": 0, "low": 0, "high": 0}


def test_intervals_are_over_places_not_images() -> None:
    """Ten images of one place say no more than one: the interval is as wide, where the images' own would be narrow."""
    rng = np.random.default_rng(0)
    error = rng.choice([10.0, 900.0], 40)
    alone = intervals(error, list(range(40)))
    repeated = intervals(np.repeat(error, 10), np.repeat(np.arange(40), 10).tolist())
    share = 100 * float((error <= 200).mean())
    low, high = alone.within[200]
    assert low < share < high
    assert high - low == pytest.approx(200 * 1.96 * np.sqrt(0.25 / 40), rel=0.25)
    assert repeated.within[200] == pytest.approx(alone.within[200], abs=6)
    assert alone.within[1] == (0, 0)
    assert alone.median_km[0] <= np.median(error) <= alone.median_km[1]
    assert json.loads(json.dumps(alone.record()))["within"]["0.1"] == [0, 0]
