"""Damaged image files are decoded or refused, never anything else."""

from __future__ import annotations

import os
import random
import resource
import warnings

import pytest

from fuzzing import INPUTS, SEEDS, damaged, decode_or_refuse


@pytest.mark.timeout(1800 if INPUTS else 120)
def test_damaged_images_are_decoded_or_refused() -> None:
    inputs = INPUTS or 2000
    decoded = 0
    chance = random.Random(os.environ.get("GEOFIX_FUZZ_SEED", "geofix"))
    memory = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on what it reads in spite of the damage
        for number in range(inputs):
            data = damaged(chance.choice(SEEDS), chance)
            try:
                decoded += decode_or_refuse(data)
            except Exception as error:
                raise AssertionError(f"input {number}, hexadecimal: {data.hex()}") from error
            if number == inputs // 5:
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(
        f"\ndecoder: {inputs} inputs, {decoded} decoded, the rest refused; memory grew by {grown / 1024:.1f} MiB after a fifth"
    )
    assert decoded > inputs / 20  # else nothing but headers was tried
    assert grown < 32 * 1024
