"""Stages of a request: each is a span and a value of the stage histogram."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from geofix.telemetry.metrics import STAGE_SECONDS
from geofix.telemetry.spans import OFF, Kind, Span, Value, record, span, tracing_is_on


class Stage:
    """A context manager around a stage. `ms` is what it took, once it is over."""

    __slots__ = ("_begun", "_name", "_span", "ms")

    def __init__(self, name: str, span: Span = OFF) -> None:
        self._name, self._span = name, span
        self.ms = 0.0

    def set(self, **attributes: Value) -> None:
        """Add attributes `geofix.<name>` to its span."""
        self._span.set(**attributes)

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        self._span.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        elapsed = time.perf_counter() - self._begun
        self.ms = elapsed * 1000
        STAGE_SECONDS.observe(elapsed, self._name)
        self._span.__exit__(kind, error, trace)


def stage(name: str, kind: Kind = "internal", /) -> Stage:
    """A stage that begins now; one of kind client is a call of another service."""
    return Stage(name, span(name, kind) if tracing_is_on() else OFF)


def past_stage(name: str, seconds: float, end_ns: int, /, **attributes: Value) -> int:
    """A stage that took `seconds` until `end_ns` (`time.time_ns`), measured elsewhere; when it began, for the one before."""
    start_ns = end_ns - round(seconds * 1e9)
    STAGE_SECONDS.observe(seconds, name)
    record(name, start_ns, end_ns, **attributes)
    return start_ns
