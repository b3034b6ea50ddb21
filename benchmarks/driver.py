"""The load driver of the benchmarks: closed and open loops in asyncio, on the loopback interface only.

A closed loop keeps a number of clients busy, each with one call at a time: it finds the capacity. An open loop starts calls at
given times whether or not earlier ones are answered, as users do: it shows what happens beyond the capacity. Its latencies count
from the planned start, so that a driver or a server that stalls cannot hide the wait (coordinated omission).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import grpc

from geofix.wire import error_from_rpc

Call = Callable[[int], Awaitable[None]]
"""One call, by its number from 0. What it raises is counted by name: gRPC errors by code and reason."""
Arrivals = Literal["constant", "poisson"]

OK = "OK"
NOT_SENT = "NOT_SENT"
"""An open loop had too many calls in flight to start this one."""


class WrongAnswer(Exception):
    """An answer that differs from the known-good one."""


@dataclass(frozen=True)
class Outcome:
    """One call: when it was to start (seconds from the load's start), how long it took in seconds, and what came of it."""

    start_s: float
    latency_s: float
    code: str

    @property
    def end_s(self) -> float:
        """When it ended, seconds from the load's start."""
        return self.start_s + self.latency_s


@dataclass
class Report:
    """What a load showed.

    Attributes:
        outcomes: every call, in the order of their ends.
        seconds: wall time.
        driver_cpu_s: processor time that this process used meanwhile, the driver's own.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    driver_cpu_s: float = 0.0

    @property
    def codes(self) -> Counter[str]:
        """Calls by outcome."""
        return Counter(outcome.code for outcome in self.outcomes)

    @property
    def rate(self) -> float:
        """Calls answered well, a second."""
        return self.codes[OK] / self.seconds if self.seconds else 0.0

    def goodput(self, deadline_s: float) -> float:
        """Calls answered well within `deadline_s`, a second."""
        good = sum(o.code == OK and o.latency_s <= deadline_s for o in self.outcomes)
        return good / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float, code: str = OK) -> float:
        """The latency that `percent` of the calls with this outcome do not exceed, milliseconds; NaN without any."""
        latencies = sorted(outcome.latency_s for outcome in self.outcomes if outcome.code == code)
        if not latencies:
            return float("nan")
        return latencies[min(len(latencies) - 1, int(len(latencies) * percent / 100))] * 1000

    def lines(self) -> Iterator[str]:
        """For people."""
        p50, p90, p99 = (self.percentile_ms(percent) for percent in (50, 90, 99))
        yield f"answered   {self.rate:8.1f} a second ({self.codes[OK]} of {len(self.outcomes)} in {self.seconds:.1f} s)"
        yield f"latency    {p50:8.1f} ms p50   {p90:.1f} p90   {p99:.1f} p99"
        yield f"driver CPU {self.driver_cpu_s / self.seconds if self.seconds else 0:8.2f} cores"
        for code, count in self.codes.most_common():
            if code != OK:
                yield f"  {count:6d} {code}"


def loopback(address: str) -> str:
    """The address, if it is one of this machine's loopback interface.

    Raises:
        ValueError: it is not; load goes nowhere else.
    """
    match = re.fullmatch(r"(?:dns:///|ipv4:|ipv6:)?(\[[0-9a-fA-F:]+\]|[^:/\[\]]+):\d{1,5}", address)
    host = match.group(1).strip("[]") if match else ""
    if host == "localhost":
        return address
    try:
        if ipaddress.ip_address(host).is_loopback:
            return address
    except ValueError:
        pass
    raise ValueError(
        f"{address} is not on the loopback interface: load is made on this machine only, such as 127.0.0.1:50051"
    )


async def closed_loop(call: Call, clients: int, seconds: float, *, calls: int | None = None) -> Report:
    """`clients` clients, each with one call at a time, for `seconds` or until `calls` were made. Calls begun are finished."""
    report, numbers = Report(), iter(range(calls) if calls is not None else iter(int, 1))
    begun = time.perf_counter()
    cpu = time.process_time()
    count = 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() - begun < seconds and next(numbers, None) is not None:
            count += 1
            start = time.perf_counter()
            code = await _outcome(call, count - 1)
            report.outcomes.append(Outcome(start - begun, time.perf_counter() - start, code))

    await asyncio.gather(*(client() for _ in range(clients)))
    report.seconds, report.driver_cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    return report


async def open_loop(
    call: Call,
    per_second: float,
    seconds: float,
    *,
    arrivals: Arrivals = "poisson",
    in_flight: int = 2000,
    seed: int = 0,
) -> Report:
    """Calls at a constant or Poisson rate for `seconds`; at most `in_flight` at a time, further ones are counted NOT_SENT."""
    report, running = Report(), set[asyncio.Task[None]]()
    begun = time.perf_counter()
    cpu = time.process_time()

    async def one(number: int, planned_s: float) -> None:
        code = await _outcome(call, number)
        report.outcomes.append(Outcome(planned_s, time.perf_counter() - begun - planned_s, code))

    for number, planned_s in enumerate(_arrival_times(per_second, seconds, arrivals, seed)):
        await asyncio.sleep(max(0.0, planned_s - (time.perf_counter() - begun)))
        if len(running) >= in_flight:
            report.outcomes.append(Outcome(planned_s, 0.0, NOT_SENT))
            continue
        task = asyncio.create_task(one(number, planned_s))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    report.seconds, report.driver_cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    return report


def _arrival_times(per_second: float, seconds: float, arrivals: Arrivals, seed: int) -> Iterator[float]:
    chance, at = random.Random(seed), 0.0  # noqa: S311  # arrival times, no secrets
    while at < seconds:
        yield at
        at += 1 / per_second if arrivals == "constant" else chance.expovariate(per_second)


async def _outcome(call: Call, number: int) -> str:
    try:
        await call(number)
    except grpc.RpcError as error:
        return f"{error.code().name} {error_from_rpc(error, 'the server').reason}"
    except WrongAnswer as wrong:
        return f"WRONG {wrong}"
    except Exception as error:  # a defect of the call under test must not end the load
        return type(error).__name__
    return OK
