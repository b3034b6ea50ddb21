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

    def of_rows(self, rows: FloatArray) -> FloatArray:
        """The values for n answers whose signals are the columns of `rows`, in this function's order: (n, s) -> (n,)."""
        return self.intercept + rows @ np.array(self.coefficients)
