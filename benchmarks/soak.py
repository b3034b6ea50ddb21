"""`make soak`: loads the platform for minutes and watches what grows: resident memory, descriptors, tasks of the event loops.

    python benchmarks/soak.py                                # 3 minutes of warm-up, 10 minutes watched
    python benchmarks/soak.py --seconds 60 --warm-up 20      # a quick look, which says little about memory

The load is of every kind: computed and cached answers, batches, images that cannot be read, calls that are given up.
Growth is the median of the last tenth of the time watched over the median of its first tenth. Exit code 1 where
memory of a service grew by more than --limit, or a call ended otherwise than it should.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

import grpc

import started
from answers import ask
from driver import OK, Call, Report, WrongAnswer, closed_loop
from geofix.channel import open_channel
from geofix.platform import Platform
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from pictures import jpegs
from processes import resident_mb

EVERY_S = 2.0
"""Pause between looks."""
Samples = dict[tuple[str, str], list[float]]
"""Values by service and by what was looked at, in the order of the looks."""


def look(platform: Platform) -> dict[tuple[str, str], float]:
    """What each process holds now: memory in MB, descriptors, threads and, of services, tasks of its event loop."""
    found: dict[tuple[str, str], float] = {}
    for name, pid in platform.pids.items():
        process = Path("/proc") / str(pid)
        found[name, "memory"] = resident_mb(pid)
        found[name, "descriptors"] = len(os.listdir(process / "fd"))
        found[name, "threads"] = len(os.listdir(process / "task"))
    for name, url in platform.metrics.items():
        with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310  # an address of our own
            for line in page.read().decode().splitlines():
                if line.startswith("geofix_asyncio_tasks "):
                    found[name, "tasks"] = float(line.split()[1])
    return found


async def mixed(stub: rpc.GeolocationServiceAsyncStub, images: list[bytes]) -> Call:
    """Calls of every kind, by turns."""
    questions = await ask(stub, images)

    async def call(number: int) -> None:
        question = questions[number % len(questions)]
        match number % 10:
            case 7:
                await expect(stub, b"no image")
            case 8:
                sources = [ImageSource(image=each.image) for each in questions[:3]] + [ImageSource(image=b"x")]
                batch = await stub.BatchLocate(pb.BatchLocateRequest(sources=sources), timeout=30)
                for each, answered in zip(questions[:3], batch.results, strict=False):
                    each.check(answered.response)
            case 9:
                given_up = stub.Locate(question.request(cached=False), timeout=30)
                await asyncio.sleep(0.01)
                given_up.cancel()
            case _:
                question.check(await stub.Locate(question.request(cached=number % 2 == 0), timeout=30))

    return call


async def expect(stub: rpc.GeolocationServiceAsyncStub, image: bytes) -> None:
    """A call that must be refused.

    Raises:
        WrongAnswer: it was answered.
    """
    try:
        await stub.Locate(pb.LocateRequest(source=ImageSource(image=image)), timeout=30)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return
        raise
    raise WrongAnswer("what is no image was answered")


async def soak(platform: Platform, options: argparse.Namespace) -> tuple[Report, Samples]:
    """Load; the report, and what was seen after the warm-up."""
    samples: Samples = defaultdict(list)
    begun = time.monotonic()

    async def watch() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            seen = await asyncio.to_thread(look, platform)
            if time.monotonic() - begun >= options.warm_up:
                for key, value in seen.items():
                    samples[key].append(value)

    async with open_channel(platform.address) as channel:
        call = await mixed(rpc.GeolocationServiceStub(channel), jpegs(options.images, options.megapixels))
        watching = asyncio.create_task(watch())
        report = await closed_loop(call, options.clients, options.warm_up + options.seconds)
        watching.cancel()
    return report, samples


def growth(values: list[float]) -> tuple[float, float]:
    """Medians of the first and of the last tenth."""
    tenth = max(1, len(values) // 10)
    return statistics.median(values[:tenth]), statistics.median(values[-tenth:])


def main() -> int:
    """Load, watch, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--seconds", type=float, default=600, help="watched")
    parser.add_argument("--warm-up", type=float, default=180, help="seconds of load before that")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--megapixels", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=5, help="percent that the memory of a service may grow")
    options = parser.parse_args()
    with started.platform(options.bundle, {"GEOFIX_METRICS": "on"}) as platform:
        report, samples = asyncio.run(soak(platform, options))
    print("\n".join(report.lines()))
    print(f"\nwatched for {options.seconds:.0f} s after {options.warm_up:.0f} s of warm-up\n")
    print("| service | memory, MB | growth | descriptors | threads | tasks |\n|---|---|--:|---|---|---|")
    worst = 0.0
    for name in sorted({name for name, _ in samples}):
        first, last = growth(samples[name, "memory"])
        percent = 100 * (last / first - 1)
        worst = max(worst, percent)
        columns = [
            "{:.0f} → {:.0f}".format(*growth(samples[name, what])) if (name, what) in samples else ""
            for what in ("descriptors", "threads", "tasks")
        ]
        print(f"| {name} | {first:.1f} → {last:.1f} | {percent:+.2f} % | {' | '.join(columns)} |")
    failed = sum(count for code, count in report.codes.items() if code != OK)
    print(f"\nlargest growth {worst:+.2f} %; calls that ended otherwise than they should: {failed}")
    return int(worst > options.limit or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
