"""`geofix-train cross-validate`: an experiment trained and answered once for each fold of whole groups.

Every image is answered by a bundle that has seen nothing of its group. The answers judge the experiment, and radii and gate that
are fitted on them serve the bundle that trains on everything.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix import bundle as files
from geofix.calibration import SIGNALS, Calibration, fit_calibration
from geofix.decision import Strategy
from geofix.errors import InvalidInput
from geofix.geo import FloatArray, distance_km, latlon_to_xyz
from geofix.local import LocalEngine
from geofix_training.abstain import fit_gate_over_folds
from geofix_training.data.parts import Part, assign_parts
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.folds import BASELINE, WHOLE, FoldAnswers, assign_folds
from geofix_training.stages.adapt import run_adapt
from geofix_training.stages.classifier import run_classifier
from geofix_training.stages.embedder import run_embedder
from geofix_training.stages.export import run_export
from geofix_training.stages.partition import write_cells
from geofix_training.stages.statistics import depths_of, extract_plain, extract_statistics
from geofix_training.stages.work import Work, rows_with_features
from geofix_training.tune import answer

ANSWERS = "answers.npz"
SECONDS = "seconds"
"""File of a fold: what it took so far, over all runs that went on with it."""
SHARED = ("index", "depths.pt", "statistics.npy", "maps.npy", "plain.npy", "statistics_done")
"""What of a work folder does not depend on the fold."""


def run_folds(work: Work, folds: int, processes: Processes, progress: Progress) -> FoldAnswers:
    """Train and answer each fold; those that are done are read.

    Raises:
        InvalidInput: there are fewer groups than folds.
    """
    backbone = work.experiment.backbone
    if backbone is not None and backbone.frozen:
        extract_statistics(work, processes, progress)
        extract_plain(work, processes, progress)
    group = np.asarray(work.index.columns["group"])
    if len(np.unique(group)) < folds:
        raise InvalidInput(f"{len(np.unique(group))} groups do not make {folds} folds: name fewer, or a finer group")
    fold = assign_folds(group, folds, work.experiment.seed)
    parts, seconds = [], 0.0
    for number in range(folds):
        one = Work(work.folder / f"fold{number}of{folds}")
        if processes.main:
            _claim(work, one, fold == number)
        processes.wait()
        if not (one.folder / ANSWERS).exists():
            with _counted(one.folder / SECONDS, processes):
                _answer_fold(one, processes, progress)
        with np.load(one.folder / ANSWERS) as found:
            parts.append({name: found[name] for name in found.files})
        seconds += _seconds(one.folder / SECONDS)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    errors = {name[6:]: values for name, values in joined.items() if name.startswith("error_")}
    return FoldAnswers(joined["rows"], fold[joined["rows"]], errors, joined["signals"], seconds)


def calibrate_over_folds(work: Work, answers: FoldAnswers) -> Calibration:
    """Radii and gate from the folds' answers, kept for `export`.

    Raises:
        InvalidInput: `abstain` is out of reach, or there are too few answers.
    """
    experiment, signals, error_km = work.experiment, answers.signal_maps(), answers.error_km[Strategy.POSTERIOR]
    gate, reached = None, None
    if experiment.abstain is not None:
        gate, reached = fit_gate_over_folds(signals, error_km, answers.fold, experiment.abstain)
    source = f"images in {answers.fold.max() + 1} folds of whole groups, each answered by a bundle of the others"
    try:
        calibration = fit_calibration(signals, error_km, experiment.decision, gate, source)
    except ValueError as error:
        raise InvalidInput(f"radii cannot be fitted: {error}; add images, or lower abstain.precision") from error
    calibration = calibration.model_copy(update={"abstention": reached})
    partial = work.folder / f"{files.CALIBRATION}.partial"
    partial.write_text(calibration.model_dump_json(indent=1) + "\n")
    partial.replace(work.folder / files.CALIBRATION)
    return calibration


def _claim(work: Work, one: Work, tested: NDArray[np.bool_]) -> None:
    """Make the work folder of one fold: its rows, (n,), are the test; index and statistics are the whole collection's."""
    folder = one.folder
    folder.mkdir(exist_ok=True)
    for name in SHARED:
        if (work.folder / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to(Path("..") / name)
    shutil.copyfile(work.folder / "experiment.json", folder / "experiment.json")
    if not (folder / "parts.npy").exists():
        columns, held_out = work.index.columns, work.experiment.held_out
        only_validation = held_out.model_copy(
            update={"calibration": 0.0, "test": 0.0, "test_blocks": 0.0, "calibration_blocks": 0.0}
        )
        lat, lon = (np.asarray(columns[name], float) for name in ("lat", "lon"))
        parts = assign_parts(np.asarray(columns["group"]), lat, lon, only_validation, work.experiment.seed)
        parts[tested] = Part.TEST
        one.save_parts(parts)
    if not (folder / files.CELLS).exists():
        write_cells(one)


@contextlib.contextmanager
def _counted(path: Path, processes: Processes) -> Iterator[None]:
    """Add the seconds that pass to those in a file, also where the work is stopped."""
    started = time.monotonic()
    try:
        yield
    finally:
        if processes.main:
            path.write_text(f"{_seconds(path) + time.monotonic() - started:.1f}\n")


def _seconds(path: Path) -> float:
    return float(path.read_text()) if path.exists() else 0.0


def _answer_fold(work: Work, processes: Processes, progress: Progress) -> None:
    if work.experiment.backbone is not None and work.experiment.backbone.adapt is not None:
        run_adapt(work, processes, progress)
    run_classifier(work, processes, progress)
    run_embedder(work, processes, progress)
    if processes.main:
        _write_answers(work, progress)
    processes.wait()


def _write_answers(work: Work, progress: Progress) -> None:
    features = np.load(work.features, mmap_mode="r")
    rows = rows_with_features(work, features, Part.TEST)
    columns = work.index.columns
    truth = latlon_to_xyz(np.asarray(columns["lat"])[rows], np.asarray(columns["lon"])[rows])
    rule = work.experiment.decision
    with tempfile.TemporaryDirectory(dir=work.folder) as draft:
        engine = LocalEngine(run_export(work, Path(draft) / "bundle", None, progress))
        heads = engine.heads(features[rows].astype(np.float32))
        found = {strategy: answer(engine, heads, truth, rule, strategy) for strategy in Strategy}
        errors = {f"error_{strategy}": answers.error_km for strategy, answers in found.items()}
        if work.experiment.gallery.published_only:
            whole = LocalEngine(run_export(work, Path(draft) / "whole", None, progress, whole=True))
            errors[f"error_{WHOLE}"] = answer(whole, heads, truth, rule, Strategy.POSTERIOR).error_km
    if work.statistics.exists():
        errors[f"error_{BASELINE}"] = _baseline(work, rows, truth)
    signals = [[d.signals[name] for name in SIGNALS] for d in found[Strategy.POSTERIOR].decisions]
    partial = work.folder / f"{ANSWERS}.partial"
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, rows=rows, signals=np.array(signals), **errors)
    partial.replace(work.folder / ANSWERS)


def _baseline(work: Work, rows: NDArray[np.int64], truth: FloatArray) -> FloatArray:
    """Errors of the nearest neighbour by cosine of the last layer's means, standardised over the rows that train."""
    path = work.plain if work.plain.exists() else work.statistics
    statistics = np.load(path, mmap_mode="r")
    known = np.sort(np.concatenate([rows_with_features(work, statistics, p) for p in (Part.TRAIN, Part.VALIDATION)]))
    width = statistics.shape[1] if work.plain.exists() else depths_of(work).kinds[0]
    gallery = np.asarray(statistics[known, :width], np.float32)
    mean, deviation = gallery.mean(axis=0), gallery.std(axis=0) + 1e-6
    gallery = _unit((gallery - mean) / deviation)
    query = _unit((np.asarray(statistics[rows, :width], np.float32) - mean) / deviation)
    nearest = np.concatenate(
        [np.argmax(part @ gallery.T, axis=1) for part in np.array_split(query, len(query) // 512 + 1)]
    )
    columns = work.index.columns
    places = latlon_to_xyz(np.asarray(columns["lat"])[known], np.asarray(columns["lon"])[known])
    return distance_km(places[nearest], truth)


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)
