"""Metrics that are declared once and come alive only where a process serves them: Prometheus's client is an extra, not a must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Kind = Literal["counter", "gauge", "histogram"]


class Instrument:
    """One metric. Until `enable` is called, every method returns at once.

    Args:
        kind: of Prometheus.
        name: of Prometheus, with its unit; a counter's ends in `_total`.
        meaning: for people.
        services: those that have it, by their roles.
        labels: names of the labels, in the order in which the methods take their values.
        buckets: upper bounds of a histogram's buckets.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        meaning: str,
        services: Sequence[str],
        labels: Sequence[str] = (),
        buckets: Sequence[float] = (),
    ) -> None:
        self.kind, self.name, self.meaning = kind, name, meaning
        self.services, self.labels, self.buckets = tuple(services), tuple(labels), tuple(buckets)
        self._metric: Any = None

    def enable(self, registry: CollectorRegistry) -> None:
        """Register it with Prometheus's client; what was counted before belongs to the former registry."""
        import prometheus_client as prometheus

        match self.kind:
            case "counter":
                self._metric = prometheus.Counter(self.name, self.meaning, self.labels, registry=registry)
            case "gauge":
                self._metric = prometheus.Gauge(self.name, self.meaning, self.labels, registry=registry)
            case "histogram":
                self._metric = prometheus.Histogram(
                    self.name, self.meaning, self.labels, registry=registry, buckets=self.buckets
                )

    def disable(self) -> None:
        """Forget the registry."""
        self._metric = None

    @property
    def enabled(self) -> bool:
        """Whether anything is kept: ask before computing a value that costs time."""
        return self._metric is not None

    def add(self, amount: float, *labels: str) -> None:
        """Raise a counter or a gauge by `amount` (a gauge: lower it by a negative one)."""
        if self._metric is not None:
            self._child(labels).inc(amount)

    def observe(self, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        if self._metric is not None:
            self._child(labels).observe(value)

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        if self._metric is not None:
            self._child(labels).set(value)

    def replace(self, *labels: str) -> None:
        """Set a gauge whose labels are the news to 1, and drop what it said before."""
        if self._metric is not None:
            self._metric.clear()
            self._metric.labels(*labels).set(1)

    def follow(self, value: Callable[[], float], *labels: str) -> None:
        """Have a gauge ask `value`, in another thread, whenever it is read."""
        if self._metric is not None:
            self._child(labels).set_function(value)

    def _child(self, labels: tuple[str, ...]) -> Any:
        return self._metric.labels(*labels) if labels else self._metric
