"""What is set aside: whole groups, whole blocks, and answers that are withheld at a stated risk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geofix.calibration import SIGNALS
from geofix.errors import ConfigurationError, InvalidInput
from geofix.geo import normalise, xyz_to_latlon
from geofix_training.abstain import fit_gate, fit_gate_over_folds
from geofix_training.data.parts import Part, assign_parts
from geofix_training.experiment import Abstain, HeldOutParts, read_experiment
from stage_data import experiment

ROWS = 40_000


@pytest.fixture(scope="module")
def places() -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
    """Two rows a group all over the Earth: groups, lat, lon."""
    rng = np.random.default_rng(3)
    lat, lon = xyz_to_latlon(normalise(rng.normal(size=(ROWS // 2, 3))))
    group = np.repeat(rng.integers(0, 2**63, ROWS // 2).astype(np.uint64), 2)
    return group, np.repeat(lat, 2), np.repeat(lon, 2)


def blocks(lat: NDArray[np.float64], lon: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    return np.floor((lat + 90) / size) * 1000 + np.floor((lon + 180) / size)


@pytest.mark.parametrize("apart", [False, True])
def test_shares_are_kept_and_blocks_are_whole(
    places: tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]], apart: bool
) -> None:
    shares = {"validation": 0.02, "calibration": 0.1, "test": 0.2, "test_blocks": 0.1, "calibration_blocks": 0.05}
    parts = assign_parts(*places, HeldOutParts.model_validate(shares | {"apart": apart, "block_deg": 5}), seed=1)
    group, block = places[0], blocks(places[1], places[2], 5)
    for part, share in (("TEST_BLOCKS", 0.1), ("CALIBRATION_BLOCKS", 0.05)):
        assert (parts == Part[part]).mean() == pytest.approx(share, abs=0.02)
        inside = np.isin(block, block[parts == Part[part]])
        assert (parts[inside] == Part[part]).all()
    outside = ~np.isin(parts, [Part.TEST_BLOCKS, Part.CALIBRATION_BLOCKS])
    for part, share in (("VALIDATION", 0.02), ("CALIBRATION", 0.1), ("TEST", 0.2)):
        assert (parts[outside] == Part[part]).mean() == pytest.approx(share, abs=0.02)
    assert (parts[::2] == parts[1::2]).all(), "rows of one group are never apart"
    assert len(np.unique(group)) == ROWS // 2
    shared = np.intersect1d(block[parts == Part.CALIBRATION], block[parts == Part.TEST])
    assert (len(shared) == 0) == apart


def test_more_parts_leave_those_before_them_as_they_were(
    places: tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    held_out = HeldOutParts(validation=0.02, calibration=0.1, test=0.1, test_blocks=0.1)
    before = assign_parts(*places, held_out, seed=1)
    after = assign_parts(*places, held_out.model_copy(update={"calibration_blocks": 0.1}), seed=1)
    same = after != Part.CALIBRATION_BLOCKS
    assert (before[same] == after[same]).all()


def test_every_region_has_its_share_of_blocks() -> None:
    """Also where rows are dense in few blocks, as streets are: by chance alone a tenth of them would be far off."""
    rng = np.random.default_rng(5)
    towns = xyz_to_latlon(normalise(rng.normal(size=(3000, 3))))
    town = rng.choice(3000, ROWS, p=rng.dirichlet(np.full(3000, 0.5)))
    lat, lon = (values[town] for values in towns)
    group = rng.integers(0, 2**63, ROWS).astype(np.uint64)
    held_out = HeldOutParts(calibration=0.1, test=0.1, apart=True, test_blocks=0.1, calibration_blocks=0.1)
    parts = assign_parts(group, lat, lon, held_out, seed=1)
    for north in (False, True):
        for quarter in range(4):
            here = ((lat >= 0) == north) & (np.floor((lon + 180) / 90) == quarter)
            for part in (Part.TEST_BLOCKS, Part.CALIBRATION_BLOCKS, Part.TEST, Part.CALIBRATION):
                share = 0.1 if "BLOCKS" in part.name else 0.08
                assert (parts[here] == part).mean() == pytest.approx(share, abs=0.02), (part.name, north, quarter)


def test_blocks_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    changes = {"held_out": {"test_blocks": 0.5, "calibration_blocks": 0.5}}
    with pytest.raises(ConfigurationError, match="leave less than a tenth of the blocks"):
        read_experiment(experiment(tmp_path, **changes))


def withheld(count: int, seed: int) -> tuple[list[dict[str, float]], NDArray[np.float64], NDArray[np.uint64]]:
    """Answers that one signal says nearly all of; a third of them are right. Signals, errors, groups."""
    rng = np.random.default_rng(seed)
    sure = rng.normal(size=count)
    error = np.where(rng.random(count) < 1 / (1 + np.exp(-(3 * sure - 1.5))), 50.0, 5000.0)
    other = rng.normal(size=(len(SIGNALS), count))
    signals = [
        {name: float(other[number, row]) for number, name in enumerate(SIGNALS)} | {"mass_200km": 2 + 0.1 * sure[row]}
        for row in range(count)
    ]
    return signals, error, rng.integers(0, 2**63, count).astype(np.uint64)


def test_a_gate_holds_its_precision_on_groups_that_did_not_choose_it() -> None:
    gate, reached = fit_gate(*withheld(6000, seed=5), Abstain(precision=0.8))
    assert reached.right == pytest.approx(0.8, abs=0.04)
    assert reached.answered > 0.25
    signals, error, _ = withheld(6000, seed=6)
    passed = np.array([gate(one) >= 0 for one in signals])
    assert passed.mean() == pytest.approx(reached.answered, abs=0.04)
    assert (error[passed] <= 200).mean() == pytest.approx(0.8, abs=0.04)
    stricter, sure = fit_gate(*withheld(6000, seed=5), Abstain(precision=0.95))
    assert sure.answered < reached.answered
    assert stricter.intercept < gate.intercept


def test_a_gate_over_folds_is_judged_by_gates_that_the_other_folds_chose() -> None:
    signals, error, group = withheld(6000, seed=5)
    fold = (group % np.uint64(4)).astype(np.int64)
    gate, reached = fit_gate_over_folds(signals, error, fold, Abstain(precision=0.8))
    assert reached.queries == 6000
    assert reached.right == pytest.approx(0.8, abs=0.03)
    assert reached.right != (error[np.array([gate(one) >= 0 for one in signals])] <= 200).mean()
    misled = np.where(fold == 0, 5000.0, error)
    assert fit_gate_over_folds(signals, misled, fold, Abstain(precision=0.6))[1].right < 0.58, (
        "a fold unlike the others"
    )


def test_a_precision_out_of_reach_says_what_to_change() -> None:
    signals, error, group = withheld(600, seed=7)
    with pytest.raises(InvalidInput, match=r"lower abstain.precision, raise abstain.within_km, or leave abstain out"):
        fit_gate(signals, np.maximum(error, 300), group, Abstain(precision=0.7))
