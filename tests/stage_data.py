"""A collection of features whose places can be told from them, and an experiment over it, for the tests of the stages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from geofix.features import Features
from geofix.geo import normalise, xyz_to_latlon

DIM = 16
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
"""Networks this small are slower on several threads."""


def features(count: int = 2400, seed: int = 0) -> Features:
    """Places in 40 clusters, two rows a group; features are their unit vectors in another basis, and noise."""
    rng = np.random.default_rng(seed)
    centres = normalise(rng.normal(size=(40, 3)))
    places = normalise(
        np.repeat(centres[rng.integers(0, 40, count // 2)] + 0.01 * rng.normal(size=(count // 2, 3)), 2, 0)
    )
    lat, lon = xyz_to_latlon(places)
    basis = np.random.default_rng(1).normal(size=(3, DIM))
    feature = (places @ basis + 0.02 * rng.normal(size=(count, DIM))).astype(np.float32)
    return Features(feature, lat, lon, np.arange(count).astype(str), (np.arange(count) // 2).astype(str))


def experiment(folder: Path, **changes: Any) -> Path:
    """An experiment over them as a YAML file; `changes` replace whole keys."""
    content: dict[str, Any] = {
        "name": "tiny",
        "description": "for tests",
        "held_out": {
            "validation": 0.05,
            "calibration": 0.3,
            "test": 0.1,
            "test_blocks": 0.1,
            "calibration_blocks": 0.1,
        },
        "partition": {"max_cells": 60, "min_images": 5},
        "classifier": {"train": {"epochs": 10, "batch": 128, "learning_rate": 0.05, "checkpoint_every": 60}},
        "embedder": {
            "hidden": 32,
            "embedding_dim": 8,
            "positive_km": 200,
            "negatives": 64,
            "train": {"epochs": 4, "batch": 128, "learning_rate": 0.003, "checkpoint_every": 20},
        },
        "decision": {"cells": 5, "k": 20, "temperature": 0.05},
        "abstain": {"within_km": 200, "precision": 0.6},
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def train_command(*words: str | Path, processes: int = 1) -> list[str]:
    """`geofix-train`, alone or under torchrun."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [*start, "geofix_training", *map(str, words)]


def run(*words: str | Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        train_command(*words, processes=processes),
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def losses(work: Path, stage: str = "classifier") -> dict[int, float]:
    """Step to loss, as logged."""
    rows = np.loadtxt(work / stage / "log.csv", delimiter=",", skiprows=1, ndmin=2)
    return {int(step): float(loss) for step, _epoch, loss, _rate in rows}
