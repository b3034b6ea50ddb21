"""Work in order with bounded memory: the same promises in threads and in asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count, islice

import pytest

from geofix.client.ordered import map_ordered, map_ordered_async


def test_results_come_in_the_order_of_the_items() -> None:
    def work(n: int) -> int:
        time.sleep(0.02 * (n % 3 == 0))
        return n

    assert list(map_ordered(range(30), work, 4)) == list(range(30))


async def test_results_come_in_the_order_of_the_items_in_asyncio() -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0.02 * (n % 3 == 0))
        return n

    async def items() -> AsyncIterator[int]:
        for n in range(30):
            yield n

    assert [n async for n in map_ordered_async(range(30), work, 4)] == list(range(30))
    assert [n async for n in map_ordered_async(items(), work, 4)] == list(range(30))


class Held:
    """Counts items that were taken and not yet handed out, and those being worked on at once."""

    def __init__(self) -> None:
        self.taken = self.running = self.most_running = 0
        self.lock = threading.Lock()

    def endless(self) -> Iterator[int]:
        for n in count():
            self.taken += 1
            yield n

    def begin(self) -> None:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)

    def end(self) -> None:
        with self.lock:
            self.running -= 1


def test_an_endless_iterable_is_read_only_as_far_as_it_is_needed() -> None:
    held = Held()

    def work(n: int) -> int:
        held.begin()
        time.sleep(0.001)
        held.end()
        return n

    results = map_ordered(held.endless(), work, 3)
    assert list(islice(results, 50)) == list(range(50))
    assert held.taken <= 50 + 4 * 3 + 1
    assert 1 < held.most_running <= 3
    results.close()  # type: ignore[attr-defined]


async def test_an_endless_iterable_is_read_only_as_far_as_it_is_needed_in_asyncio() -> None:
    held = Held()

    async def work(n: int) -> int:
        held.begin()
        await asyncio.sleep(0.001)
        held.end()
        return n

    results = map_ordered_async(held.endless(), work, 3)
    assert [await anext(results) for _ in range(50)] == list(range(50))
    assert held.taken <= 50 + 4 * 3 + 1
    assert 1 < held.most_running <= 3
    await results.aclose()  # type: ignore[attr-defined]


def test_an_exception_comes_in_its_items_place() -> None:
    def work(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    results = map_ordered(range(5), work, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


async def test_leaving_the_iteration_cancels_what_is_in_flight() -> None:
    cancelled = []

    async def work(n: int) -> int:
        try:
            await asyncio.sleep(0 if n == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    results = map_ordered_async(range(4), work, 4)
    assert await anext(results) == 0
    await results.aclose()  # type: ignore[attr-defined]
    assert sorted(cancelled) == [1, 2, 3]
