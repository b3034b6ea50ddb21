"""Single flight: who asks the same while an answer is being computed waits for that answer. Knows nothing of what is computed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from geofix_gateway.locate import Deadline

T = TypeVar("T")


class _Flight(Generic[T]):
    """A computation and how many wait for it; it has the time of the one who can wait longest."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.waiters = 0
        self.task: asyncio.Task[T]

    def left(self) -> float:
        return self.end - time.monotonic()


class Flights(Generic[T]):
    """Computations in flight, by key.

    A computation belongs to no request: the one that began it may give up or run out of time, and the others still get the
    answer. It is cancelled when the last one has gone.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def run(self, key: str, left: Deadline, compute: Callable[[Deadline], Awaitable[T]]) -> T:
        """The result of `compute` for the key, begun now or by someone before.

        Args:
            key: names what is computed.
            left: the caller's own deadline; whoever cancels the caller when it has passed does not cancel the others.
            compute: gets the deadline of the flight, which moves back when someone joins who can wait longer.

        Raises:
            Exception: whatever `compute` raises, to all who wait.
        """
        end = time.monotonic() + left()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, end, compute)
        flight.end = max(flight.end, end)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(key, flight)  # at once: nobody may join what is being cancelled
                flight.task.cancel()

    def _start(self, key: str, end: float, compute: Callable[[Deadline], Awaitable[T]]) -> _Flight[T]:
        flight = _Flight[T](end)

        async def fly() -> T:
            return await compute(flight.left)

        flight.task = asyncio.create_task(fly())
        flight.task.add_done_callback(lambda _: self._forget(key, flight))
        self._flights[key] = flight
        return flight

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
