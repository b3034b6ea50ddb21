"""Work on many items, a few at a time, results in the order of the items, with bounded memory: in threads and in asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

_AHEAD = 4
"""Items begun or done but not yet handed out, for each one in flight: so many that one slow item leaves no worker idle."""


def map_ordered(items: Iterable[A], work: Callable[[A], B], concurrency: int) -> Iterator[B]:
    """`work` of every item, in threads, in their order; at most 4 · concurrency items are held at a time.

    An exception of `work` is raised in its item's place and ends the iteration.
    """
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="geofix")
    try:
        for item in items:
            if len(waiting) >= _AHEAD * concurrency:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def map_ordered_async(
    items: Iterable[A] | AsyncIterable[A], work: Callable[[A], Awaitable[B]], concurrency: int
) -> AsyncIterator[B]:
    """The same in asyncio: `concurrency` items in flight; leaving the iteration cancels them."""
    slots = asyncio.Semaphore(concurrency)
    waiting: deque[asyncio.Task[B]] = deque()

    async def one(item: A) -> B:
        async with slots:
            return await work(item)

    try:
        async for item in _each(items):
            if len(waiting) >= _AHEAD * concurrency:
                yield await waiting.popleft()
            waiting.append(asyncio.create_task(one(item)))
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _each(items: Iterable[A] | AsyncIterable[A]) -> AsyncIterator[A]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
