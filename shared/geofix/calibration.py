"""What is known of a rule's errors: radii that hold what they say, and the gate that says when there is no answer.

Both are functions of the signals of `geofix.posterior.signals`, fitted on held-out images. A calibration belongs to one bundle,
one gallery version and one decision rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from geofix.decision import DecisionRule
from geofix.linear import Linear
from geofix.radii import RadiusFit, RadiusFits, fit_radii

SIGNALS = (
    "log_spread",
    "mass_200km",
    "log_cell_spread",
    "entropy",
    "log_top_weight",
    "top_similarity",
    "mean_similarity",
    "domain_score",
)
"""The signals that radii and gates are fitted on."""

LEAST_QUERIES = 500
"""With fewer held-out images a gallery's answers carry no radius."""


class Abstention(BaseModel):
    """What a gate was asked for, and what it reached on held-out answers that had no part in choosing it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within_km: float = Field(gt=0, description="what counts as right")
    precision: float = Field(gt=0, lt=1, description="share of the localizable answers that were to be right")
    queries: int = Field(ge=0, description="held-out answers that it was measured on")
    answered: float = Field(ge=0, le=1, description="share of them that are localizable")
    right: float = Field(ge=0, le=1, description="share of the localizable ones that are right")


class Calibration(BaseModel):
    """What `calibration.json` holds: the fit, the gate, and what they belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: DecisionRule = Field(description="the decision rule that it was fitted for")
    radius: RadiusFits | RadiusFit | None = Field(
        None, description="absent: answers carry no radius and say UNCALIBRATED"
    )
    gate: Linear | None = Field(None, description="localizable where it is at least 0; absent: every answer is")
    abstention: Abstention | None = Field(None, description="absent: the gate holds no stated risk")
    queries: int = Field(0, ge=0, description="held-out images that the radii were fitted on")
    source: str = Field("", description="what those images were")

    def radius_km(self, signals: Mapping[str, float], probability: float) -> float | None:
        """Radius in km for a probability, or None where nothing was fitted."""
        return None if self.radius is None else self.radius.at(signals, probability)

    def localizable(self, signals: Mapping[str, float]) -> bool:
        """Whether the image is of the kind that the model can place."""
        return self.gate is None or self.gate(signals) >= 0


def fit_calibration(
    signals: Sequence[Mapping[str, float]], error_km: ArrayLike, rule: DecisionRule, gate: Linear | None, source: str
) -> Calibration:
    """The calibration of a rule from held-out answers; the radii are fitted on those that the gate lets pass.

    Raises:
        ValueError: they are too few.
    """
    errors = np.asarray(error_km, float)
    passed = [i for i, s in enumerate(signals) if gate is None or gate(s) >= 0]
    bins = int(np.clip(len(passed) // 100, 3, 20))
    radius = fit_radii([signals[i] for i in passed], errors[passed], SIGNALS, bins=bins)
    return Calibration(rule=rule, radius=radius, gate=gate, queries=len(passed), source=source)
