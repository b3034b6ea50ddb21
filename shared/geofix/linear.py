"""A linear function of named signals, as calibrations store scores and gates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from geofix.geo import FloatArray


class Linear(BaseModel):
    """intercept + Σ coefficient · signal, over named signals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signals: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float

    @model_validator(mode="after")
    def _same_length(self) -> Linear:
        if len(self.signals) != len(self.coefficients):
            raise ValueError("one coefficient a signal")
        return self

    def __call__(self, signals: Mapping[str, float]) -> float:
        """The value for one answer.

        Raises:
            KeyError: a signal is missing.
        """
        return self.intercept + sum(c * signals[n] for n, c in zip(self.signals, self.coefficients, strict=True))

    def mean(self, other: Linear) -> Linear:
        """The mean of this function and another one of the same signals.

        Raises:
            ValueError: their signals differ.
        """
        if self.signals != other.signals:
            raise ValueError("functions of other signals have no mean")
        coefficients = tuple((a + b) / 2 for a, b in zip(self.coefficients, other.coefficients, strict=True))
        return Linear(signals=self.signals, coefficients=coefficients, intercept=(self.intercept + other.intercept) / 2)

    def of_rows(self, rows: FloatArray) -> FloatArray:
        """The values for n answers whose signals are the columns of `rows`, in this function's order: (n, s) -> (n,)."""
        return np.asarray(self.intercept + rows @ np.array(self.coefficients), float)
