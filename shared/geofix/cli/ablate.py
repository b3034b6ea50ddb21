"""`geofix evaluate --ablate DIR`: report.md, report.json, accuracy.svg and errors.svg."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofix.ablation import Variant, variants
from geofix.cli.evaluation_set import EvaluationSet
from geofix.cli.output import ErrorLines, follow, say
from geofix.evaluation import FAILED_KM, WITHIN_KM, Gain, Intervals, gain, geoscore, intervals
from geofix.geo import FloatArray, distance_km, latlon_to_xyz, xyz_to_latlon

if TYPE_CHECKING:
    from geofix.local import Heads, LocalEngine

BATCH = 256
"""Features that go through the heads at once."""
GAINS_KM = (200, 750)
"""Distances within which gains are told: a region and a country."""
PUBLISHED = "SwC, 1 cell, k 10, eps 1 km"
"""The variant that the others are held against."""


def write_ablation(engine: LocalEngine, asked: EvaluationSet, folder: Path) -> int:
    """Measure every variant over what is asked and write the report; the exit code.

    Raises:
        GeofixError: the models do not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heads = _heads(engine, asked)
    if not any(head is not None for head in heads):
        return 1
    truth = latlon_to_xyz(*np.array(asked.places).T)
    found = variants(engine.bundle.manifest.decision)
    errors: dict[str, FloatArray] = {}
    places = np.zeros_like(truth)
    for number, variant in enumerate(follow(found, len(found), "configurations")):
        estimates = _estimates(engine, variant, heads)
        known = np.array([head is not None for head in heads])
        errors[variant.name] = np.where(known, distance_km(estimates, truth), FAILED_KM)
        places = estimates if number == 0 else places
    ranges = {name: intervals(error, asked.groups, rounds=300) for name, error in errors.items()}
    gains = {name: _gains(error, errors[PUBLISHED], asked.groups) for name, error in errors.items()}
    kinds = {variant.name: variant.kind for variant in found}
    (folder / "report.json").write_text(json.dumps(_record(engine, errors, ranges, gains, kinds), indent=1) + "\n")
    (folder / "report.md").write_text(_markdown(engine, errors, ranges, gains))
    try:
        from geofix.cli.figures import accuracy_figure, error_map
    except ModuleNotFoundError as error:
        say(f"geofix evaluate: no figures, for {error.name} is not installed: pip install 'geofix[figures]'")
    else:
        accuracy_figure(errors, folder / "accuracy.svg")
        lat, lon = xyz_to_latlon(places)
        error_map(np.array(asked.places), np.stack([lat, lon], axis=1), errors["default"], folder / "errors.svg")
    print(f"{len(found)} configurations over {len(truth):,} images: {folder / 'report.md'}")
    return 0


def _heads(engine: LocalEngine, asked: EvaluationSet) -> list[Heads | None]:
    """What the networks say of each; None where it cannot be read."""
    from geofix.cli.answers import answer_inputs
    from geofix.errors import Reason
    from geofix.vectors import unpack_vector

    dim, errors = engine.bundle.manifest.feature_dim, ErrorLines("evaluate")

    def feature(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        found = unpack_vector(data, dim, Reason.FEATURE_INVALID) if asked.features else engine.feature(data)
        return np.asarray(found, np.float32)

    features: list[np.ndarray[tuple[int], np.dtype[np.float32]] | None] = []
    for answered in follow(answer_inputs(asked.inputs, feature), len(asked.inputs), "features"):
        errors.tell(answered.source.name, answered.error)
        features.append(answered.value)
    out: list[Heads | None] = [None] * len(features)
    known = [number for number, value in enumerate(features) if value is not None]
    for start in range(0, len(known), BATCH):
        part = known[start : start + BATCH]
        stacked = np.stack([value for value in (features[number] for number in part) if value is not None])
        for number, head in zip(part, engine.heads(stacked), strict=True):
            out[number] = head
    return out


def _estimates(engine: LocalEngine, variant: Variant, heads: list[Heads | None]) -> FloatArray:
    nowhere = np.array([0.0, 0.0, 1.0])
    return np.stack([nowhere if head is None else variant.estimate(engine, head) for head in heads])


def _gains(error_km: FloatArray, published_km: FloatArray, groups: Sequence[str]) -> list[Gain]:
    return [gain(error_km, published_km, km, groups) for km in GAINS_KM]


def _record(
    engine: LocalEngine,
    errors: Mapping[str, FloatArray],
    ranges: Mapping[str, Intervals],
    gains: Mapping[str, Sequence[Gain]],
    kinds: Mapping[str, str],
) -> dict[str, object]:
    return {
        "model_version": engine.bundle.version,
        "n": len(next(iter(errors.values()))),
        "configurations": [
            {
                "name": name,
                "kind": kinds[name],
                "within": {f"{km:g}": round(100 * float((error <= km).mean()), 3) for km in WITHIN_KM},
                "median_km": round(float(np.median(error)), 3),
                "geoscore": round(float(geoscore(error).mean()), 1),
                "intervals": ranges[name].record(),
                "gain_over_published": {f"{found.within_km:g}": found.record() for found in gains[name]},
            }
            for name, error in errors.items()
        ],
    }


def _markdown(
    engine: LocalEngine,
    errors: Mapping[str, FloatArray],
    ranges: Mapping[str, Intervals],
    gains: Mapping[str, Sequence[Gain]],
) -> str:
    head = [f"within {km:g} km, %" for km in WITHIN_KM]
    gained = [f"gain within {km} km" for km in GAINS_KM]
    lines = [
        f"# Ablation of {engine.bundle.version}",
        "",
        f"{len(next(iter(errors.values()))):,} images. In brackets: 95 % intervals by bootstrap over places. Gains are points "
        "over the published Search within Cell (1 cell, k 10, eps 1 km), on the same images (paired bootstrap).",
        "",
        "| | " + " | ".join([*head, "median, km", "GeoScore", *gained]) + " |",
        "|---|" + "---|" * (len(head) + 2 + len(gained)),
    ]
    for name, error in errors.items():
        cells = []
        for km in WITHIN_KM:
            low, high = ranges[name].within[km]
            cells.append(f"{100 * float((error <= km).mean()):.1f} [{low:.1f}, {high:.1f}]")
        low, high = ranges[name].median_km
        cells.append(f"{float(np.median(error)):,.0f} [{low:,.0f}, {high:,.0f}]")
        cells.append(f"{float(geoscore(error).mean()):,.0f}")
        cells += [f"{found.points:+.1f} [{found.low:+.1f}, {found.high:+.1f}]" for found in gains[name]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "![accuracy against distance](accuracy.svg)", "", "![errors on the map](errors.svg)", ""]
    return "\n".join(lines)
