"""Which rows train, and which are set aside: by a hash of their group, or by whole blocks of the Earth."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from geofix.geo import FloatArray
from geofix_training.experiment import HeldOutParts


class Part(IntEnum):
    """What a row is for."""

    TRAIN = 0
    VALIDATION = 1
    CALIBRATION = 2
    TEST = 3
    TEST_BLOCKS = 4
    CALIBRATION_BLOCKS = 5


def assign_parts(
    group: NDArray[np.uint64], lat: FloatArray, lon: FloatArray, held_out: HeldOutParts, seed: int
) -> NDArray[np.uint8]:
    """The part of each row, shape (n,): rows of one group are never apart, and blocks set aside hold every row of their area.

    With `held_out.apart` a block's groups are set aside for calibration or for the test, never for both, at the same shares
    over all; a group that spans blocks counts to the one of its first row.
    """
    parts = np.full(len(group), Part.TRAIN, np.uint8)
    draw, block = _uniform(group, seed), _blocks(lat, lon, held_out.block_deg)
    both = held_out.calibration + held_out.test
    calibrates = draw < held_out.validation + held_out.calibration
    if held_out.apart and both > 0:
        _, first, of_row = np.unique(group, return_index=True, return_inverse=True)
        calibrates = _uniform(block, seed + 2)[first][of_row] < held_out.calibration / both
    aside = (held_out.validation <= draw) & (draw < held_out.validation + both)
    parts[draw < held_out.validation] = Part.VALIDATION
    parts[aside] = np.where(calibrates[aside], Part.CALIBRATION, Part.TEST)
    whole = _uniform(block, seed + 1)
    parts[whole < held_out.test_blocks] = Part.TEST_BLOCKS
    parts[(held_out.test_blocks <= whole) & (whole < held_out.test_blocks + held_out.calibration_blocks)] = (
        Part.CALIBRATION_BLOCKS
    )
    return parts


def _blocks(lat: FloatArray, lon: FloatArray, size_deg: float) -> NDArray[np.uint64]:
    """A number for the block of the Earth that each place lies in."""
    row = np.floor((lat + 90) / size_deg).astype(np.uint64) * np.uint64(1 << 20)
    return row + np.floor((lon + 180) / size_deg).astype(np.uint64)


def _uniform(key: NDArray[np.uint64], seed: int) -> FloatArray:
    """A number in [0, 1) for each key, the same for equal keys (the finaliser of SplitMix64; Steele et al. 2014)."""
    z = key + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(float) / 2**53)
