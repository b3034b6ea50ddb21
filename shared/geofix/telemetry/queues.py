"""Metrics of the queues in front of devices and databases, and the spans of what came through a batcher."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from geofix.batching_records import BatchObserver, BatchRecord, Done
from geofix.telemetry.metrics import (
    BATCH_FAILURES,
    BATCH_SIZE,
    QUEUE_DEPTH,
    QUEUE_DROPPED,
    QUEUE_WAIT_SECONDS,
    STAGE_SECONDS,
)
from geofix.telemetry.spans import record, tracing_is_on


class QueueMetrics(BatchObserver):
    """The metrics of one queue, by its name."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def follow(self, depth: Callable[[], int]) -> None:
        """Have the depth of the queue asked whenever metrics are read, and what is counted begin at zero.

        A series that begins with its first event hides that event from `increase` and `rate`.
        """
        QUEUE_DEPTH.follow(depth, self._queue)
        BATCH_FAILURES.add(0, self._queue)
        for cause in ("refused", "expired", "cancelled"):
            QUEUE_DROPPED.add(0, self._queue, cause)

    def batch(self, record: BatchRecord) -> None:
        """A pass is over."""
        for wait_s in record.wait_s:
            self.waited(wait_s)
        BATCH_SIZE.observe(record.size, self._queue)
        if record.failed:
            BATCH_FAILURES.add(1, self._queue)

    def waited(self, seconds: float) -> None:
        """An item's turn has come."""
        QUEUE_WAIT_SECONDS.observe(seconds, self._queue)

    def dropped(self, cause: Literal["expired", "cancelled"]) -> None:
        """An item was let go before its work was done."""
        QUEUE_DROPPED.add(1, self._queue, cause)

    def refused(self, items: int) -> None:
        """A call of so many items found no room."""
        QUEUE_DROPPED.add(items, self._queue, "refused")


def trace_item(done: Done[Any], *, decoded: bool) -> None:
    """Stages and spans of an item that came through a batcher: queue, inference and, where it was an image, decode.

    The queue's span ends when inference begins; decoding lies inside it, as it does in time.
    """
    STAGE_SECONDS.observe(done.wait_s, "queue")
    STAGE_SECONDS.observe(done.run_s, "inference")
    if decoded:
        STAGE_SECONDS.observe(done.prepare_s, "decode")
    if not tracing_is_on():
        return
    epoch_ns = time.time_ns() - time.monotonic_ns()

    def at(monotonic_s: float) -> int:
        return epoch_ns + round(monotonic_s * 1e9)

    record("queue", at(done.submitted), at(done.run_began), wait_ms=done.wait_s * 1000)
    if decoded:
        record("decode", at(done.prepare_began), at(done.prepare_began + done.prepare_s))
    record("inference", at(done.run_began), at(done.run_began + done.run_s), batch_size=done.batch_size)
