"""The batcher: batches form while the device is busy and never by waiting; what nobody wants any more costs no work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from geofix.batching import FAILURES_UNTIL_UNHEALTHY, Batcher
from geofix.batching_records import BatchObserver, BatchRecord
from geofix.errors import DeadlineExceeded, InvalidInput, Overloaded, Reason, Unavailable

SECONDS = 20.0
"""Longer than any test takes."""


class Device:
    """Doubles numbers; while `gate` is shut a pass waits in it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.passes: list[list[int]] = []
        self.threads: set[int] = set()
        self.entered = threading.Semaphore(0)
        self.failing: Callable[[Sequence[int]], bool] = lambda _: False

    def run(self, batch: list[int]) -> list[int]:
        self.threads.add(threading.get_ident())
        self.passes.append(list(batch))
        self.entered.release()
        assert self.gate.wait(SECONDS)
        if self.failing(batch):
            raise RuntimeError("device lost")
        return [2 * item for item in batch]

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=SECONDS)


class Told(BatchObserver):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.batches: list[BatchRecord] = []
        self.drops: list[str] = []
        self.refusals = 0

    def batch(self, record: BatchRecord) -> None:
        self.batches.append(record)

    def dropped(self, cause: str) -> None:
        self.drops.append(cause)

    def refused(self, items: int) -> None:
        self.refusals += items


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
async def make(device: Device) -> AsyncIterator[Callable[..., Batcher[Any, Any, Any]]]:
    made: list[Batcher[Any, Any, Any]] = []

    def build(prepare: Callable[[Any], Any] | None = None, **more: Any) -> Batcher[Any, Any, Any]:
        made.append(Batcher("device", [device.run], prepare, **more))
        return made[-1]

    yield build
    device.gate.set()
    for batcher in made:
        await asyncio.to_thread(batcher.close)


def soon() -> float:
    return time.monotonic() + SECONDS


async def values(batcher: Batcher[Any, Any, Any], *items: int, deadline: float | None = None) -> list[int]:
    return [done.value for done in await batcher.submit(items, deadline or soon())]


async def until(condition: Callable[[], bool]) -> None:
    end = soon()
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


async def test_an_idle_device_does_not_wait_for_a_batch(make: Any, device: Device) -> None:
    batcher = make(max_batch=8)
    assert await values(batcher, 1) == [2]
    assert device.passes == [[1]]


@pytest.mark.parametrize("prepare", [None, lambda item: item])
async def test_what_arrives_while_the_device_is_busy_becomes_one_batch(
    make: Any, device: Device, prepare: Callable[[int], int] | None
) -> None:
    batcher = make(prepare, max_batch=3)
    device.gate.clear()
    first = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    rest = [asyncio.create_task(values(batcher, n)) for n in (1, 2, 3, 4)]
    await until(lambda: batcher.depth == 4)
    await asyncio.sleep(0.05)  # until those that may be prepared are
    device.gate.set()
    assert await asyncio.gather(first, *rest) == [[0], [2], [4], [6], [8]]
    assert device.passes == [[0], [1, 2, 3], [4]]
    assert len(device.threads) == 1
    assert batcher.depth == 0


async def test_a_call_larger_than_a_batch_is_answered_in_order(make: Any, device: Device) -> None:
    batcher = make(max_batch=2)
    assert await values(batcher, 5, 6, 7, 8, 9) == [10, 12, 14, 16, 18]
    assert max(map(len, device.passes)) == 2


async def test_items_of_different_keys_share_no_pass_and_keep_their_order(make: Any, device: Device) -> None:
    batcher = make(max_batch=4, key=lambda item: item % 2)
    device.gate.clear()
    first = asyncio.create_task(values(batcher, 100))
    await device.until_entered()
    second = asyncio.create_task(values(batcher, 1, 2, 3, 4))
    await until(lambda: batcher.depth == 4)
    device.gate.set()
    assert await first == [200]
    assert await second == [2, 4, 6, 8]
    assert device.passes == [[100], [1, 3], [2, 4]]


async def test_a_full_queue_refuses_the_whole_call_and_says_when_to_come_back(make: Any, device: Device) -> None:
    told = Told()
    batcher = make(max_queue=2, observer=told)
    device.gate.clear()
    running = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    waiting = asyncio.create_task(values(batcher, 1))
    await until(lambda: batcher.depth == 1)
    with pytest.raises(Overloaded) as caught:
        await values(batcher, 2, 3)
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.metadata == {"limit": "2"}
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    assert told.refusals == batcher.counters.refused == 2
    device.gate.set()
    assert await running == [0]
    assert await waiting == [2]


async def test_a_request_that_would_be_late_is_refused_at_once_and_one_that_would_not_is_taken(
    make: Any, device: Device
) -> None:
    batcher = make()
    device.gate.clear()
    slow = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    await asyncio.sleep(0.2)
    device.gate.set()
    await slow  # so an item takes 0.2 s
    device.gate.clear()
    busy = [asyncio.create_task(values(batcher, n)) for n in (1, 2, 3)]
    await device.until_entered()
    await until(lambda: batcher.depth == 2)
    with pytest.raises(Overloaded, match="the deadline leaves"):
        await values(batcher, 4, deadline=time.monotonic() + 0.5)
    patient = asyncio.create_task(values(batcher, 5))
    device.gate.set()
    await asyncio.gather(*busy, patient)
    assert [4] not in device.passes


async def test_an_idle_device_takes_a_request_however_slow_it_was(make: Any, device: Device) -> None:
    batcher = make()
    device.gate.clear()
    slow = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    await asyncio.sleep(0.2)
    device.gate.set()
    await slow
    assert await values(batcher, 1, deadline=time.monotonic() + 0.1) == [2]


async def test_late_and_cancelled_items_are_dropped_before_any_work(make: Any, device: Device) -> None:
    told = Told()
    prepared: list[int] = []

    def prepare(item: int) -> int:
        prepared.append(item)
        return item

    batcher = make(prepare, observer=told)  # prepares two ahead
    device.gate.clear()
    running = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    ahead = [asyncio.create_task(values(batcher, n)) for n in (1, 2)]
    await until(lambda: len(prepared) == 3)
    late = asyncio.create_task(values(batcher, 3, deadline=time.monotonic() + 0.05))
    gone = asyncio.create_task(values(batcher, 4))
    last = asyncio.create_task(values(batcher, 5))
    await until(lambda: batcher.depth == 5)
    gone.cancel()
    await asyncio.sleep(0.06)
    device.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert await asyncio.gather(running, *ahead, last) == [[0], [2], [4], [10]]
    assert list(prepared) == [0, 1, 2, 5]
    assert sorted(told.drops) == ["cancelled", "expired"]
    assert (batcher.counters.expired, batcher.counters.cancelled) == (1, 1)


async def test_a_prepared_item_that_became_late_is_not_run(make: Any, device: Device) -> None:
    batcher = make()
    device.gate.clear()
    running = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    late = asyncio.create_task(values(batcher, 1, deadline=time.monotonic() + 0.02))
    await asyncio.sleep(0.04)
    device.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await running
    assert device.passes == [[0]]


async def test_an_item_that_cannot_be_prepared_fails_its_call_alone(make: Any, device: Device) -> None:
    def prepare(item: int) -> int:
        if item < 0:
            raise InvalidInput("negative")
        return item

    batcher = make(prepare, max_batch=4)
    bad, good = await asyncio.gather(values(batcher, 1, -1), values(batcher, 2), return_exceptions=True)
    assert isinstance(bad, InvalidInput)
    assert good == [4]
    assert batcher.depth == 0


async def test_what_takes_no_time_is_prepared_by_who_submits_it(make: Any, device: Device) -> None:
    prepared: dict[int, int] = {}

    def prepare(item: int) -> int:
        if item < 0:
            raise InvalidInput("less than nothing")
        prepared[item] = threading.get_ident()
        return item

    batcher = make(prepare, at_once=lambda item: item < 10)
    assert await values(batcher, 20, 1, 30, 2) == [40, 2, 60, 4]
    here = threading.get_ident()
    assert {item for item, thread in prepared.items() if thread == here} == {1, 2}
    with pytest.raises(InvalidInput):
        await values(batcher, 40, -1)
    await until(lambda: batcher.depth == 0)
    assert 40 not in prepared  # nothing of a call that cannot be answered is queued
    assert await values(batcher, 3) == [6]


async def test_what_takes_no_time_overtakes_nothing_that_waits(make: Any, device: Device) -> None:
    batcher = make(lambda item: item, at_once=lambda item: item < 10)
    device.gate.clear()
    calls = [asyncio.create_task(values(batcher, 0))]
    await device.until_entered()
    for item in (20, 30, 40, 1, 50, 2):
        calls.append(asyncio.create_task(values(batcher, item)))
        await until(lambda: batcher.depth == len(calls) - 1)
    device.gate.set()
    await asyncio.gather(*calls)
    assert device.passes == [[0], [20], [30], [40], [1], [50], [2]]


async def test_one_item_that_breaks_a_pass_costs_the_others_nothing(make: Any, device: Device) -> None:
    batcher = make(max_batch=4)
    device.failing = lambda batch: 13 in batch
    device.gate.clear()
    first = asyncio.create_task(values(batcher, 0))
    await device.until_entered()
    rest = [asyncio.create_task(values(batcher, n)) for n in (12, 13, 14)]
    await until(lambda: batcher.depth == 3)
    device.gate.set()
    twelve, thirteen, fourteen = await asyncio.gather(*rest, return_exceptions=True)
    assert await first == [0]
    assert twelve == [24]
    assert fourteen == [28]
    assert isinstance(thirteen, Unavailable)
    assert "device lost" not in thirteen.message
    await batcher.check(0)


async def test_repeated_failures_raise_the_alarm_and_a_probe_that_succeeds_ends_it(make: Any, device: Device) -> None:
    batcher = make()
    device.failing = lambda _: True
    for n in range(FAILURES_UNTIL_UNHEALTHY):
        await batcher.check(0)
        with pytest.raises(Unavailable):
            await values(batcher, n)
    with pytest.raises(Unavailable):
        await batcher.check(0)
    device.failing = lambda _: False
    await batcher.check(0)
    passes = len(device.passes)
    await batcher.check(0)
    assert len(device.passes) == passes  # a healthy device is not probed


async def test_a_pass_that_hangs_raises_the_alarm(make: Any, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofix.batching.STALL_S", 0.05)
    batcher = make()
    device.gate.clear()
    stuck = asyncio.create_task(values(batcher, 1))
    await device.until_entered()
    await asyncio.sleep(0.06)
    with pytest.raises(Unavailable, match="has not come back"):
        await batcher.check(0)
    device.gate.set()
    await stuck
    async with asyncio.timeout(20):
        while batcher._running:  # the answer is out a moment before its thread is done
            await asyncio.sleep(0.01)
    await batcher.check(0)


async def test_closing_lets_the_running_pass_finish_and_refuses_what_waits(make: Any, device: Device) -> None:
    batcher = make()
    device.gate.clear()
    running = asyncio.create_task(values(batcher, 1))
    await device.until_entered()
    waiting = asyncio.create_task(values(batcher, 2))
    await until(lambda: batcher.depth == 1)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    with pytest.raises(Unavailable) as caught:
        await waiting
    assert caught.value.reason is Reason.SHUTTING_DOWN
    device.gate.set()
    await closing
    assert await running == [2]
    with pytest.raises(Unavailable):
        await values(batcher, 3)


async def test_every_runner_has_a_thread_of_its_own() -> None:
    devices = [Device(), Device()]
    for device in devices:
        device.gate.clear()
    batcher: Batcher[int, int, int] = Batcher("two", [device.run for device in devices])
    calls = [asyncio.create_task(values(batcher, n)) for n in (1, 2)]
    for device in devices:
        await device.until_entered()
        device.gate.set()
    assert await asyncio.gather(*calls) == [[2], [4]]
    assert devices[0].threads.isdisjoint(devices[1].threads)
    await asyncio.to_thread(batcher.close)


async def test_the_observer_and_the_counters_tell_the_same(make: Any, device: Device) -> None:
    told = Told()
    batcher = make(lambda item: item, max_batch=2, observer=told)
    (done,) = await batcher.submit([1], soon())
    assert done.batch_size == told.batches[0].size == 1
    assert done.run_s == told.batches[0].run_s
    assert min(done.wait_s, done.prepare_s, done.run_s) >= 0
    assert (batcher.counters.batches, batcher.counters.items, batcher.counters.failures) == (1, 1, 0)
