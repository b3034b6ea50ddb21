"""What `geofix evaluate` cannot print for a generated domain: coverage on fresh crops, refusal of foreign pictures, clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from geofix.bundle import Bundle
from geofix.decision import Strategy
from geofix.errors import InvalidInput
from geofix.evaluation import CLUSTERED, gain
from geofix.geo import latlon_to_xyz
from geofix.local import LocalEngine
from geofix_training.features import RENDER_SIZE, crop_input, random_views
from geofix_training.raster import Raster
from geofix_training.tune import answer

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

Report = dict[str, float]


def check_crops(bundle: Bundle, raster: Raster, count: int, footprint_km: tuple[float, float], seed: int) -> Report:
    """Accuracy, coverage of the radii, refusals and clusters over `count` fresh damaged crops."""
    engine = LocalEngine(bundle)
    views = random_views(raster, count, footprint_km, 20.0, seed)
    rng = np.random.default_rng(seed)
    features = [engine.feature_of(crop_input(raster, view, True, rng)) for view in views]
    truth = latlon_to_xyz([v.lat for v in views], [v.lon for v in views])
    heads = engine.heads(np.stack(features))
    rule, calibration = bundle.manifest.decision, bundle.calibration
    ours = answer(engine, heads, truth, rule, Strategy.POSTERIOR)
    base = answer(engine, heads, truth, rule, Strategy.CLASSIFICATION)
    passed = np.array([calibration.localizable(d.signals) for d in ours.decisions])
    report: Report = {
        "crops": count,
        "rendered_pixels": RENDER_SIZE,
        "within_200_km": 100 * ours.within(200),
        "median_km": float(np.median(ours.error_km)),
        "refused": 100 * float((~passed).mean()),
    }
    for level in (0.5, 0.9):
        radius = np.array([calibration.radius_km(d.signals, level) or np.nan for d in ours.decisions])[passed]
        report[f"coverage_{level:.0%}"] = 100 * float((ours.error_km[passed] <= radius).mean())
        report[f"median_radius_{level:.0%}_km"] = float(np.median(radius))
    largest = [max((len(c.members) for c in d.clusters), default=0) for d in ours.decisions]
    report["clustered_share"] = 100 * float((np.array(largest)[passed] >= CLUSTERED).mean())
    over_cells = gain(ours.error_km, base.error_km, seed=seed)
    return report | {
        "gain_over_classification": over_cells.points,
        "gain_low": over_cells.low,
        "gain_high": over_cells.high,
    }


def check_foreign(bundle: Bundle, folder: Path, limit: int, seed: int, progress: Callable[[int, int], None]) -> Report:
    """How many of (at most `limit` random) pictures in a folder, all foreign to the model, are answered as not localizable.

    Raises:
        InvalidInput: there is no picture in the folder.
    """
    engine = LocalEngine(bundle)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InvalidInput(f"there is no picture in {folder}")
    rng = np.random.default_rng(seed)
    chosen = [paths[i] for i in sorted(rng.permutation(len(paths))[:limit])]
    refused = unreadable = 0
    for done, path in enumerate(chosen, 1):
        try:
            heads = engine.heads(engine.feature(path.read_bytes())[None])[0]
            refused += not bundle.calibration.localizable(engine.decide(heads).signals)
        except InvalidInput:
            unreadable += 1
        progress(done, len(chosen))
    return {"pictures": len(chosen), "unreadable": unreadable, "not_localizable": 100 * refused / len(chosen)}
