"""A circuit breaker: what keeps failing is left alone for a while, then tried with one call at a time. Pure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` failures in a row; a probe closes it, or doubles the pause until the next one.

    While open, one call a pause is let through (the half-open state). A probe that never reports back holds nobody up: the next
    pause brings the next probe.

    Args:
        failures: failures in a row that open it.
        pause_s: first pause between probes, seconds.
        most_pause_s: longest pause, seconds. Each pause is shortened by up to a fifth at random, lest many probe together.
    """

    def __init__(
        self,
        failures: int,
        pause_s: float,
        most_pause_s: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._limit = failures
        self._first_s = pause_s
        self._most_s = most_pause_s
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._pause_s = pause_s
        self._probe_at = 0.0
        self._failed_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether a call may be made now; a True while open is the probe, and is given once a pause."""
        if not self.is_open:
            return True
        if self._clock() < self._probe_at:
            return False
        self._wait()
        return True

    def succeeded(self) -> None:
        """A call came back: close."""
        self._failures = 0
        self._pause_s = self._first_s

    def failed(self, begun: float | None = None) -> None:
        """A call failed: count it; the one that opens, and a probe, start a pause.

        Args:
            begun: when the call began, on the clock (`time.monotonic`). It counts only if that was after the last failure:
                calls that one hiccup makes fail together are one failure in a row.
        """
        if begun is not None and begun < self._failed_at:
            return
        self._failed_at = self._clock()
        was_open = self.is_open
        self._failures += 1
        if was_open:
            self._pause_s = min(2 * self._pause_s, self._most_s)
        if self.is_open:
            self._wait()

    def _wait(self) -> None:
        self._probe_at = self._clock() + self._pause_s * (1 - 0.2 * self._chance())
