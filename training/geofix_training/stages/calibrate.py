"""`geofix-train calibrate`: the constants of the decision rule and the radii, on images set aside for that."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix import bundle as files
from geofix.calibration import Calibration, fit_calibration
from geofix.decision import Strategy
from geofix.errors import InvalidInput
from geofix.geo import latlon_to_xyz
from geofix.local import LocalEngine
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.stages.embedder import rows_with_features
from geofix_training.stages.export import run_export
from geofix_training.stages.work import Work
from geofix_training.tune import answer, tune

LEAST = 120
"""Images set aside below which no radius can be fitted."""
MOST_TUNING = 600
"""Images that the decision rule is chosen on, at most."""


def run_calibrate(work: Work, progress: Progress) -> Calibration:
    """Choose the rule on one half of the groups set aside, fit the radii on the other, and keep both in the work folder.

    Raises:
        InvalidInput: too few images are set aside, or a stage is missing.
    """
    features = np.load(work.features, mmap_mode="r")
    rows = rows_with_features(work, features, Part.CALIBRATION)
    second = np.asarray(work.index.columns["group"])[rows] % 2 == 1
    tuning, fitting = rows[~second][:MOST_TUNING], rows[second]
    if len(tuning) < LEAST or len(fitting) < LEAST:
        raise InvalidInput(
            f"{len(rows)} images are set aside for calibration, and twice {LEAST} are the least: raise held_out.calibration, "
            "or export without it; answers then say UNCALIBRATED"
        )
    with tempfile.TemporaryDirectory(dir=work.folder) as draft:
        engine = LocalEngine(run_export(work, Path(draft) / "bundle", None, progress))
        rule = tune(engine, engine.heads(_read(features, tuning)), *_places(work, tuning), work.experiment.decision)
        heads = engine.heads(_read(features, fitting))
        truth = latlon_to_xyz(*_places(work, fitting))
        answers = answer(engine, heads, truth, rule, Strategy.POSTERIOR)
    signals = [decision.signals for decision in answers.decisions]
    calibration = fit_calibration(signals, answers.error_km, rule, None, "images set aside by group")
    partial = work.folder / f"{files.CALIBRATION}.partial"
    partial.write_text(calibration.model_dump_json(indent=1) + "\n")
    partial.replace(work.folder / files.CALIBRATION)
    return calibration


def _read(features: NDArray[np.float16], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return features[rows].astype(np.float32)


def _places(work: Work, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = work.index.columns
    return np.asarray(columns["lat"][rows]), np.asarray(columns["lon"][rows])
