"""`make chaos`: hurts each part of the platform under load, compares every answer with the known-good one, times the recovery.

    python benchmarks/chaos.py                       # every fault: some 10 minutes
    python benchmarks/chaos.py --only kill           # kill -9 alone: about 2 minutes
    python benchmarks/chaos.py --only reset,silent   # and so on

Two platforms are hurt one after the other: one with Milvus Lite inside retrieval, whose processes are killed (-9) and
stopped; and one on a Milvus server of its own, reached through proxies that are slow, fall silent, or reset their
connections. Half of the load may be answered from the cache. A fault's recovery is the time from its end (a kill ends
at once) until the last call that failed had ended.

Exit code 1 where an answer was wrong, or a recovery took longer than --limit.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import started
from answers import Question, ask
from driver import OK, Report, open_loop
from faults import HOLD_S, Fault, connections, database, gateway_through_proxies, platform_on_a_server, processes
from geofix.channel import open_channel
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from pictures import jpegs

BEFORE_S = 2.0
"""Load before a fault: it must be free of errors, else nothing that follows is the fault's."""
DEADLINE_S = 5.0
"""Of each call."""


@dataclass(frozen=True)
class Result:
    """What a fault did: calls, errors by code, wrong answers, errors before it, and seconds until the last error had ended."""

    fault: Fault
    calls: int
    errors: Counter[str]
    wrong: int
    early: int
    recovery_s: float

    @property
    def row(self) -> str:
        """A row of the table."""
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.most_common()) or "none"
        early = f" ({self.early} before the fault)" if self.early else ""
        return (
            f"| {self.fault.name} | {self.fault.target} | {self.calls} | {errors}{early} | {self.wrong} "
            f"| {self.recovery_s:.1f} |"
        )


HEADER = """| fault | of | calls | errors | wrong answers | seconds until error-free |
|---|---|---|---|---|---|"""


async def hurt(address: str, questions: Sequence[Question], fault: Fault, rate: float, after_s: float) -> Result:
    """Load a gateway at `rate` calls a second, begin the fault and end it, and go on for `after_s` seconds."""
    held_s = HOLD_S if fault.end else 0.0
    async with open_channel(address) as channel:
        stub = rpc.GeolocationServiceStub(channel)

        async def call(number: int) -> None:
            question = questions[number % len(questions)]
            cached = (number // len(questions)) % 2 == 0
            question.check(await stub.Locate(question.request(cached=cached), timeout=DEADLINE_S))

        begun = time.perf_counter()
        load = asyncio.create_task(
            open_loop(call, rate, BEFORE_S + held_s + after_s, arrivals="constant", in_flight=500)
        )
        await asyncio.sleep(BEFORE_S)
        at_s = time.perf_counter() - begun
        await asyncio.to_thread(fault.begin)
        if fault.end:
            await asyncio.sleep(held_s)
            await asyncio.to_thread(fault.end)
        over_s = time.perf_counter() - begun if fault.end else at_s
        return result(fault, await load, at_s, over_s)


def result(fault: Fault, report: Report, at_s: float, over_s: float) -> Result:
    """What a report says of a fault that began at `at_s` and was over at `over_s` seconds from the load's start."""
    failed = [outcome for outcome in report.outcomes if outcome.code != OK]
    wrong = sum(outcome.code.startswith("WRONG") for outcome in failed)
    early = sum(outcome.end_s < at_s for outcome in failed)
    last = max((outcome.end_s for outcome in failed), default=0.0)
    codes = Counter(outcome.code for outcome in failed)
    return Result(fault, len(report.outcomes), codes, wrong, early, max(0.0, last - over_s))


async def embedded(bundle: Path, directory: Path, wanted: set[str], options: argparse.Namespace) -> list[Result]:
    """The faults of processes, on a platform with Milvus Lite inside retrieval."""
    platform = started.Platform(bundle, directory / "embedded")
    try:
        await asyncio.to_thread(platform.start)
        return await series(platform.address, [f for f in processes(platform) if f.name in wanted], options)
    finally:
        await asyncio.to_thread(platform.stop)


async def on_a_server(bundle: Path, directory: Path, wanted: set[str], options: argparse.Namespace) -> list[Result]:
    """The faults of connections and of the database, on a platform whose Milvus is a server."""
    async with AsyncExitStack() as stack:
        platform, milvus, proxy = await stack.enter_async_context(platform_on_a_server(bundle, directory))
        gateway, proxies = await stack.enter_async_context(gateway_through_proxies(platform, bundle))
        faults = database(milvus) + connections(proxies | {"milvus": proxy})
        return await series(gateway, [fault for fault in faults if fault.name in wanted], options)


async def series(address: str, faults: Sequence[Fault], options: argparse.Namespace) -> list[Result]:
    """One fault after the other; a row of the table each."""
    async with open_channel(address) as channel:
        questions = await ask(rpc.GeolocationServiceStub(channel), jpegs(options.images, options.megapixels))
    results = []
    for fault in faults:
        one = await hurt(address, questions, fault, options.rate, options.after)
        print(one.row, flush=True)
        results.append(one)
    return results


def main() -> int:
    """Hurt, print; the exit code."""
    names = {"kill": "kill -9", "stop": "SIGSTOP", "slow": "slow", "silent": "silent", "reset": "reset"}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--only", default=",".join(names), help=f"faults, by commas: {', '.join(names)}")
    parser.add_argument("--rate", type=float, default=8, help="calls a second")
    parser.add_argument("--after", type=float, default=12, help="seconds of load after a fault")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--megapixels", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=10, help="seconds that a recovery may take")
    options = parser.parse_args()
    wanted = {names[name] for name in options.only.split(",")}
    print(
        f"{options.rate} calls a second, deadline {DEADLINE_S} s, {options.images} images, bundle {options.bundle.name}\n"
    )
    print(HEADER, flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="geofix-chaos-") as name,
        started.environment({"GEOFIX_ALSO_EMBED": "false"}),  # so that the embedder has a part in every answer
    ):
        results: list[Result] = []
        if wanted & {"kill -9", "SIGSTOP"}:
            results += asyncio.run(embedded(options.bundle, Path(name), wanted, options))
        results += asyncio.run(on_a_server(options.bundle, Path(name), wanted, options))
    wrong = sum(one.wrong for one in results)
    slowest = max(results, key=lambda one: one.recovery_s)
    print(
        f"\nwrong answers {wrong} of {sum(one.calls for one in results)}; slowest recovery {slowest.recovery_s:.1f} s "
        f"({slowest.fault.name} of {slowest.fault.target})"
    )
    return int(wrong > 0 or slowest.recovery_s > options.limit)


if __name__ == "__main__":
    sys.exit(main())
