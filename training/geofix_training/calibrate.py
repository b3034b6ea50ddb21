"""Radii and gate of a bundle, fitted on held-out crops at places of their own."""

from __future__ import annotations

import numpy as np

from geofix.calibration import Calibration, fit_calibration
from geofix.decision import DecisionRule
from geofix.linear import Linear
from geofix_training.tune import Answers


def domain_gate(answers: Answers, share_passed: float) -> Linear:
    """Localizable where the domain score reaches the one that `share_passed` of held-out crops reach.

    One-class on purpose: it is fitted on nothing but pictures of the model's own kind, so it does not depend on guessing
    what users may send instead.
    """
    scores = np.array([d.signals["domain_score"] for d in answers.decisions])
    threshold = float(np.quantile(scores, 1 - share_passed))
    return Linear(signals=("domain_score",), coefficients=(1.0,), intercept=-threshold)


def calibrate(answers: Answers, rule: DecisionRule, gate: Linear, source: str) -> Calibration:
    """The calibration of a rule from held-out answers: radii are fitted on those that the gate lets pass.

    Raises:
        ValueError: there are too few answers.
    """
    signals = [decision.signals for decision in answers.decisions]
    return fit_calibration(signals, answers.error_km, rule, gate, source)
