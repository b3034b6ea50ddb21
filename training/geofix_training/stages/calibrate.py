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
from geofix_training.abstain import fit_gate
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.stages.export import run_export
from geofix_training.stages.work import Work, rows_with_features
from geofix_training.tune import answer, tune

LEAST = 120
"""Images set aside below which no radius can be fitted."""
FEWEST_TUNING, MOST_TUNING = 600, 3_000
"""Images that the decision rule is chosen on: a quarter of those set aside, within these, and never more than half of them."""
MOST_FITTING = 16_000
"""Images that radii and gate are fitted on, at most: some four minutes; more would narrow nothing."""


def run_calibrate(work: Work, progress: Progress) -> Calibration:
    """Choose the decision rule on some of the groups set aside, fit the radii on the others, and keep both in the work folder.

    Raises:
        InvalidInput: too few images are set aside, a stage is missing, or `abstain` is out of reach.
    """
    features = np.load(work.features, mmap_mode="r")
    aside = {part: rows_with_features(work, features, part) for part in (Part.CALIBRATION, Part.CALIBRATION_BLOCKS)}
    rows = np.concatenate(list(aside.values()))
    tuning, fitting = _two_parts(rows, np.asarray(work.index.columns["group"])[rows])
    if len(tuning) < LEAST or len(fitting) < LEAST:
        raise InvalidInput(
            f"{len(rows)} images are set aside for calibration, and twice {LEAST} are the least: raise held_out.calibration, "
            "or export without it; answers then say UNCALIBRATED"
        )
    with tempfile.TemporaryDirectory(dir=work.folder) as draft:
        engine = LocalEngine(run_export(work, Path(draft) / "bundle", None, progress))
        rule = tune(engine, engine.heads(_read(features, tuning)), *_places(work, tuning), work.experiment.decision)
        truth = latlon_to_xyz(*_places(work, fitting))
        answers = answer(engine, engine.heads(_read(features, fitting)), truth, rule, Strategy.POSTERIOR)
    signals = [decision.signals for decision in answers.decisions]
    gate, reached = None, None
    if work.experiment.abstain is not None:
        group = np.asarray(work.index.columns["group"])[fitting]
        gate, reached = fit_gate(signals, answers.error_km, group, work.experiment.abstain)
    in_blocks = int(np.isin(fitting, aside[Part.CALIBRATION_BLOCKS]).sum())
    source = "images set aside by group"
    if in_blocks:
        source += f", {in_blocks:,} of them in blocks of which nothing is in the gallery"
    calibration = fit_calibration(signals, answers.error_km, rule, gate, source)
    calibration = calibration.model_copy(update={"abstention": reached})
    partial = work.folder / f"{files.CALIBRATION}.partial"
    partial.write_text(calibration.model_dump_json(indent=1) + "\n")
    partial.replace(work.folder / files.CALIBRATION)
    return calibration


def _two_parts(rows: NDArray[np.int64], group: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to choose the rule on and rows to fit radii on, both ordered by group: groups are hashes, so at random."""
    order = np.argsort(group, kind="stable")
    rows, group = rows[order], group[order]
    count = min(max(FEWEST_TUNING, min(len(rows) // 4, MOST_TUNING)), len(rows) // 2)
    cut = int(np.searchsorted(group, group[count - 1], "right")) if count else 0
    return rows[:cut], rows[cut : cut + MOST_FITTING]


def _read(features: NDArray[np.float16], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return features[rows].astype(np.float32)


def _places(work: Work, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = work.index.columns
    return np.asarray(columns["lat"][rows]), np.asarray(columns["lon"][rows])
