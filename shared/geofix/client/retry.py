"""Which failed calls are tried again, and when: no clock, no sleep and no gRPC call is in here, so both clients share it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from geofix.errors import GeofixError, Overloaded, Unavailable


@dataclass(frozen=True)
class RetryPolicy:
    """When a call that failed is tried again: only UNAVAILABLE and RESOURCE_EXHAUSTED are, and nothing past the deadline.

    The pause before attempt n+1 is drawn from the upper half of min(max_pause_s, first_pause_s · 2ⁿ); where the server states
    one (google.rpc.RetryInfo), it is at least that, and up to a quarter longer so that clients do not come back together.

    Attributes:
        attempts: most attempts of one call; 1 for no retries.
        first_pause_s: the longest first pause, seconds.
        max_pause_s: the longest pause, seconds.
        budget: most retries that the client may be ahead of its successes; each success earns a fifth of one back. It keeps
            many calls that fail together from becoming several times as many.
    """

    attempts: int = 5
    first_pause_s: float = 0.1
    max_pause_s: float = 2.0
    budget: float = 50.0

    def pause_s(self, attempt: int, stated_s: float | None, draw: float) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1; `draw` is a random number from 0 to 1."""
        if stated_s is not None:
            return stated_s * (1 + draw / 4)
        longest = min(self.max_pause_s, self.first_pause_s * 2.0 ** (attempt - 1))
        return float(longest * (1 + draw) / 2)


class RetryBudget:
    """The retries that a client may still make; shared by its calls and threads."""

    _EARNED = 0.2

    def __init__(self, most: float) -> None:
        self._most = self._left = most
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry; False where none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._left = min(self._most, self._left + self._EARNED)


class Attempts:
    """The attempts of one call, within its deadline.

    Args:
        policy: when to try again.
        budget: the client's.
        timeout_s: seconds for all attempts and pauses together.
        clock: a monotonic clock, seconds.
        draw: random numbers from 0 to 1.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy, self._budget, self._clock, self._draw = policy, budget, clock, draw
        self._end = clock() + timeout_s
        self._made = 0

    def left_s(self) -> float:
        """Seconds that are left: the deadline of the next attempt."""
        return max(0.0, self._end - self._clock())

    def succeeded(self) -> None:
        """The call was answered."""
        self._budget.earn()

    def pause_after(self, error: GeofixError, stated_s: float | None) -> float | None:
        """Seconds to wait before the next attempt, or None where the call failed for good."""
        self._made += 1
        if not isinstance(error, Unavailable | Overloaded) or self._made >= self._policy.attempts:
            return None
        pause = self._policy.pause_s(self._made, stated_s, self._draw())
        return pause if pause < self.left_s() and self._budget.spend() else None


def stated_pause_s(error: grpc.RpcError) -> float | None:
    """The pause that the server asks for in a google.rpc.RetryInfo, seconds; None where it states none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = RetryInfo()
        if detail.Unpack(info):
            return float(max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None
