"""What a cross-validation found, as Markdown and as JSON."""

from __future__ import annotations

from typing import Any

from geofix.calibration import Calibration
from geofix.decision import Strategy
from geofix.evaluation import WITHIN_KM, gain, intervals
from geofix_training.folds import BASELINE, WHOLE, FoldAnswers
from geofix_training.stages.work import Work

TOLD_KM = tuple(km for km in WITHIN_KM if km >= 25)
"""A collection of photographs has no truer places."""


def record(work: Work, answers: FoldAnswers, calibration: Calibration) -> dict[str, Any]:
    """Accuracy of each strategy and its gain over the baseline, with intervals by bootstrap over groups, and the gate."""
    group = work.index.columns["group"][answers.rows].tolist()
    found: dict[str, Any] = {}
    for name, error_km in sorted(answers.error_km.items()):
        ends = intervals(error_km, group)
        found[name] = {
            "within": {str(km): round(100 * float((error_km <= km).mean()), 2) for km in TOLD_KM},
            "intervals": {str(km): [round(end, 2) for end in ends.within[km]] for km in TOLD_KM},
        }
        if BASELINE in answers.error_km and name != BASELINE:
            gains = [gain(error_km, answers.error_km[BASELINE], int(km), group) for km in TOLD_KM]
            found[name]["gain"] = {str(one.within_km): one.record() for one in gains}
    return {
        "images": len(answers.rows),
        "folds": int(answers.fold.max()) + 1,
        "groups": len(set(group)),
        "seconds": round(answers.seconds),
        "strategies": found,
        "abstention": calibration.abstention.model_dump() if calibration.abstention is not None else None,
    }


def markdown(told: dict[str, Any]) -> str:
    """The record as a table."""
    lines = [
        f"{told['images']:,} images in {told['folds']} folds of whole groups ({told['groups']:,}), "
        f"{told['seconds'] / 60:.0f} minutes; % within, with 95 % intervals by bootstrap over groups",
        "",
        "| | " + " | ".join(f"{km:g} km" for km in TOLD_KM) + " |",
        "|---" * (len(TOLD_KM) + 1) + "|",
    ]
    for name, one in told["strategies"].items():
        cells = [
            f"{one['within'][str(km)]:.1f} ({one['intervals'][str(km)][0]:.1f}–{one['intervals'][str(km)][1]:.1f})"
            for km in TOLD_KM
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in (Strategy.POSTERIOR, WHOLE):
        if "gain" in told["strategies"].get(name, {}):
            ends = [told["strategies"][name]["gain"][str(km)] for km in TOLD_KM]
            cells = [f"{g['points']:+.1f} ({g['low']:+.1f} to {g['high']:+.1f})" for g in ends]
            lines.append(f"| {name} over {BASELINE} | " + " | ".join(cells) + " |")
    if (gate := told["abstention"]) is not None:
        lines += [
            "",
            f"Localizable, threshold chosen on the other folds for {gate['precision']:.0%} within {gate['within_km']:g} km: "
            f"{gate['answered']:.1%} of the images, {gate['right']:.1%} of them right.",
        ]
    return "\n".join(lines) + "\n"
