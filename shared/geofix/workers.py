"""A bounded queue in front of worker threads: what does not fit is refused at once instead of waiting past its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from geofix.errors import Overloaded, Reason
from geofix.telemetry.queues import QueueMetrics

T = TypeVar("T")


class Turnstile:
    """Lets at most `running` coroutines through at a time, in the order in which they came; at most `limit` wait or run."""

    def __init__(self, name: str, running: int, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._inside = 0
        self._metrics = QueueMetrics(name)
        self._free = asyncio.Semaphore(running)

    @property
    def depth(self) -> int:
        """Coroutines that wait or run."""
        return self._inside

    async def __aenter__(self) -> None:
        """Wait for one's turn.

        Raises:
            Overloaded: `limit` coroutines are inside already.
        """
        if self._inside >= self._limit:
            self._metrics.refused(1)
            raise _overloaded(self._name, self._limit)
        self._inside += 1
        arrived = time.perf_counter()
        try:
            await self._free.acquire()
        except BaseException:
            self._inside -= 1
            self._metrics.dropped("cancelled")
            raise
        self._metrics.waited(time.perf_counter() - arrived)

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        self._free.release()


class WorkQueue:
    """Runs blocking functions on `threads` threads; at most `limit` calls wait or run at a time."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._inside = 0
        self._metrics = QueueMetrics(name)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """The function's result.

        Raises:
            Overloaded: `limit` calls are inside already.
        """
        if self._inside >= self._limit:
            self._metrics.refused(1)
            raise _overloaded(self._name, self._limit)
        self._inside += 1
        try:
            future = self._pool.submit(self._begin, time.perf_counter(), function, *args)
            try:
                return await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if future.cancel():  # a call whose client is gone is not started any more
                    self._metrics.dropped("cancelled")
                raise
        finally:
            self._inside -= 1

    @property
    def depth(self) -> int:
        """Calls that wait or run."""
        return self._inside

    def _begin(self, submitted: float, function: Callable[..., T], *args: object) -> T:
        self._metrics.waited(time.perf_counter() - submitted)
        return function(*args)

    def close(self) -> None:
        """Let the running functions finish and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _overloaded(name: str, limit: int) -> Overloaded:
    return Overloaded(
        f"{name}: {limit} requests wait already; retry after a pause", Reason.QUEUE_FULL, {"limit": str(limit)}
    )
