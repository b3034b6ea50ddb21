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


def assign_parts(
    group: NDArray[np.uint64], lat: FloatArray, lon: FloatArray, held_out: HeldOutParts, seed: int
) -> NDArray[np.uint8]:
    """The part of each row, shape (n,): rows of one group are never apart, and test blocks hold every row of their area."""
    parts = np.full(len(group), Part.TRAIN, np.uint8)
    draw = _uniform(group, seed)
    edge = 0.0
    for part, share in (
        (Part.VALIDATION, held_out.validation),
        (Part.CALIBRATION, held_out.calibration),
        (Part.TEST, held_out.test),
    ):
        parts[(edge <= draw) & (draw < edge + share)] = part
        edge += share
    size = held_out.block_deg
    block = np.floor((lat + 90) / size).astype(np.uint64) * np.uint64(1 << 20)
    block += np.floor((lon + 180) / size).astype(np.uint64)
    parts[_uniform(block, seed + 1) < held_out.test_blocks] = Part.TEST_BLOCKS
    return parts


def _uniform(key: NDArray[np.uint64], seed: int) -> FloatArray:
    """A number in [0, 1) for each key, the same for equal keys (the finaliser of SplitMix64; Steele et al. 2014)."""
    z = key + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(float) / 2**53)
