"""Single flight: one computation for all who ask at the same time, and nobody's going away is another's failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from geofix_gateway.flights import Flights
from geofix_gateway.locate import Deadline


def left(seconds: float = 10) -> Deadline:
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


class Work:
    """A computation behind a gate, which counts how often it was begun and cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = self.cancelled = 0
        self.deadline: Deadline = left()
        self.failure: Exception | None = None

    async def __call__(self, deadline: Deadline) -> bytes:
        self.begun += 1
        self.deadline = deadline
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return b"answer %d" % self.begun


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def ask(
    flights: Flights[bytes], work: Callable[[Deadline], Awaitable[bytes]], key: str = "k", seconds: float = 10
) -> asyncio.Task[bytes]:
    return asyncio.create_task(flights.run(key, left(seconds), work))


async def test_who_asks_the_same_gets_the_same_and_it_is_computed_once() -> None:
    flights, work = Flights[bytes](), Work()
    asking = [ask(flights, work) for _ in range(16)]
    await settle()
    assert "k" in flights
    work.gate.set()
    assert set(await asyncio.gather(*asking)) == {b"answer 1"}
    assert work.begun == 1
    assert len(flights) == 0
    assert await ask(flights, work) == b"answer 2"  # what has landed is not kept here


async def test_other_keys_are_other_computations() -> None:
    flights, work = Flights[bytes](), Work()
    asking = [ask(flights, work, key) for key in "abca"]
    await settle()
    assert len(flights) == work.begun == 3
    work.gate.set()
    await asyncio.gather(*asking)


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_whoever_goes_away_the_others_get_their_answer(leaver: int) -> None:
    flights, work = Flights[bytes](), Work()
    asking = [ask(flights, work) for _ in range(3)]
    await settle()
    asking[leaver].cancel()
    await settle()
    assert asking[leaver].cancelled()
    assert (work.begun, work.cancelled) == (1, 0)
    work.gate.set()
    others = [task for index, task in enumerate(asking) if index != leaver]
    assert await asyncio.gather(*others) == [b"answer 1"] * 2


async def test_when_the_last_has_gone_it_is_cancelled_and_nobody_joins_it() -> None:
    flights, work = Flights[bytes](), Work()
    first, second = ask(flights, work), ask(flights, work)
    await settle()
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])
    late = ask(flights, work)  # before the cancelled one has ended
    await settle()
    assert (work.begun, work.cancelled) == (2, 1)
    work.gate.set()
    assert await late == b"answer 2"
    assert len(flights) == 0


async def test_its_deadline_is_that_of_who_can_wait_longest() -> None:
    flights, work = Flights[bytes](), Work()
    asking = [ask(flights, work, seconds=1)]
    await settle()
    assert 0.5 < work.deadline() <= 1
    asking += [ask(flights, work, seconds=60), ask(flights, work, seconds=2)]
    await settle()
    assert 50 < work.deadline() <= 60
    work.gate.set()
    await asyncio.gather(*asking)


async def test_all_who_wait_get_its_failure_and_the_next_tries_again() -> None:
    flights, work = Flights[bytes](), Work()
    work.failure = ValueError("broken")
    asking = [ask(flights, work) for _ in range(3)]
    await settle()
    work.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert results == [work.failure] * 3
    work.failure = None
    assert await ask(flights, work) == b"answer 2"


async def test_a_failure_that_nobody_waits_for_is_no_warning() -> None:
    flights = Flights[bytes]()

    async def fails_when_cancelled(_: Deadline) -> bytes:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("while it was cancelled") from None
        return b""

    asking = ask(flights, fails_when_cancelled)
    await settle()
    asking.cancel()
    await settle()
    assert asking.cancelled()
    assert len(flights) == 0
