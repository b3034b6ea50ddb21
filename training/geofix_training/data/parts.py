"""Which rows train, and which are set aside: by a hash of their group, or by whole blocks of the Earth."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from geofix.geo import FloatArray
from geofix_training.experiment import HeldOutParts

REGION_DEG = 45.0
"""Side of the regions of which each has its share of what is set aside by blocks."""


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

    Blocks are drawn so that every region of the Earth has its share of rows in them: errors in blocks are larger, and radii that
    are fitted where there are few of them would be too small for a test where there are many.

    With `held_out.apart` a block's groups are set aside for calibration or for the test, never for both, at the same shares
    over all; a group that spans blocks counts to the one of its first row.
    """
    parts = np.full(len(group), Part.TRAIN, np.uint8)
    draw, blocks = _uniform(group, seed), _Blocks(lat, lon, held_out.block_deg)
    both = held_out.calibration + held_out.test
    calibrates = draw < held_out.validation + held_out.calibration
    if held_out.apart and both > 0:
        _, first, of_row = np.unique(group, return_index=True, return_inverse=True)
        calibrates = blocks.drawn(held_out.calibration / both, seed + 2)[first][of_row]
    aside = (held_out.validation <= draw) & (draw < held_out.validation + both)
    parts[draw < held_out.validation] = Part.VALIDATION
    parts[aside] = np.where(calibrates[aside], Part.CALIBRATION, Part.TEST)
    tested = blocks.drawn(held_out.test_blocks, seed + 1)
    parts[tested] = Part.TEST_BLOCKS
    parts[blocks.drawn(held_out.calibration_blocks, seed + 1, tested)] = Part.CALIBRATION_BLOCKS
    return parts


class _Blocks:
    """Rows by the block of the Earth, of `size_deg`, that each place lies in."""

    def __init__(self, lat: FloatArray, lon: FloatArray, size_deg: float) -> None:
        self._numbers, first, self._of_row, self._rows = np.unique(
            _grid(lat, lon, size_deg), return_index=True, return_inverse=True, return_counts=True
        )
        self._region = _grid(lat[first], lon[first], REGION_DEG)

    def drawn(self, share: float, seed: int, without: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """The rows, (n,), of blocks drawn at random, without those of the rows `without`: of each region's as many as hold
        `share` of its rows as nearly as whole blocks can, and what one region has too few of the next one has more.
        """
        left = np.ones(len(self._numbers), bool)
        if without is not None:
            left[self._of_row[without]] = False
        chosen = np.zeros(len(self._numbers), bool)
        order = np.lexsort((_uniform(self._numbers, seed), self._region))
        owed = 0.0
        for region in np.split(order, np.flatnonzero(np.diff(self._region[order])) + 1):
            owed += share * float(self._rows[region].sum())
            for block in region[left[region]]:
                if owed < self._rows[block] / 2:
                    break  # and no search for a smaller one: blocks of all sizes are to be drawn alike
                chosen[block] = True
                owed -= float(self._rows[block])
        return np.asarray(chosen[self._of_row])


def _grid(lat: FloatArray, lon: FloatArray, size_deg: float) -> NDArray[np.uint64]:
    """A number for the square of a grid of the Earth that each place lies in."""
    row = np.floor((lat + 90) / size_deg).astype(np.uint64) * np.uint64(1 << 20)
    return row + np.floor((lon + 180) / size_deg).astype(np.uint64)


def _uniform(key: NDArray[np.uint64], seed: int) -> FloatArray:
    """A number in [0, 1) for each key, the same for equal keys (the finaliser of SplitMix64; Steele et al. 2014)."""
    z = key + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(float) / 2**53)
