"""`make bench-cache`: what a cached answer costs, against the same server answering a constant.

Two servers take turns: a gateway whose answers are all cached, and a server of the same bootstrap, interceptor and handlers that
returns one recorded answer to whatever it is asked. Both get the same bytes, so receiving the image is in both. Printed are the
medians over the pairs with their range and, since the driver shares the machine, each server's processor time a call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

import started
from driver import closed_loop
from geofix.bundle import Bundle
from geofix.channel import open_channel
from geofix.local import LocalEngine
from geofix.platform.ports import free_ports
from geofix.server import Service
from geofix.server import main as serve
from geofix.settings import ServiceSettings
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1.types_pb2 import ImageSource
from geofix.vectors import pack_vector
from geofix_gateway.handlers import add_handlers
from pictures import jpegs
from processes import processor_s

LOCATE = "/geofix.v1.GeolocationService/Locate"
CLIENTS = 16
CACHED = pb.LocateResponse(cached=True).SerializeToString()
"""Among the last bytes of an answer from the cache: they are appended to it."""


class Constant(Service):
    """A geofix server that knows one answer, which is read from a file."""

    full_name = "geofix.v1.GeolocationService"
    role = "gateway"

    def __init__(self, answer: Path) -> None:
        self._answer = answer.read_bytes()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the methods."""
        add_handlers(self, server)

    async def start(self) -> None:
        """Nothing is needed."""

    async def check(self) -> None:
        """It can always answer."""

    async def Locate(self, request: pb.LocateRequest, context: Any) -> bytes:  # noqa: ARG002, N802  # the contract's
        """The answer."""
        return self._answer

    BatchLocate = GetServiceInfo = Locate


@contextlib.contextmanager
def constant_server(bundle: Path, answer: bytes) -> Iterator[tuple[str, int]]:
    """A process that answers with these bytes: its address and pid."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with tempfile.NamedTemporaryFile() as file:
        file.write(answer)
        file.flush()
        process = subprocess.Popen(
            [sys.executable, __file__, "--constant", file.name],
            env=os.environ | {"GEOFIX_LISTEN": address, "GEOFIX_BUNDLE": str(bundle), "GEOFIX_LOG_LEVEL": "WARNING"},
        )
        try:
            yield address, process.pid
        finally:
            process.kill()
            process.wait()


async def ask(address: str, request: bytes, *, wait_s: float = 0.0) -> bytes:
    """One answer, waiting up to `wait_s` for the server."""
    end = time.monotonic() + wait_s
    async with open_channel(address) as channel:
        call: Any = channel.unary_unary(LOCATE)
        while True:
            try:
                return bytes(await call(request, timeout=30, wait_for_ready=True))
            except grpc.RpcError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)


async def cached_answer(address: str, request: bytes) -> bytes:
    """The answer once it comes from the cache, which a busy gateway may be leaving alone for a moment."""
    for _ in range(100):
        answer = await ask(address, request)
        if pb.LocateResponse.FromString(answer).cached:
            return answer
        await asyncio.sleep(0.1)
    sys.exit("the answer is not cached")


async def load(address: str, request: bytes, seconds: float) -> tuple[float, int, int]:
    """Cached answers a second to a closed loop, how many there were, and all answers. Bytes in and out: the driver is cheap."""
    cached = 0
    async with open_channel(address) as channel:
        call: Any = channel.unary_unary(LOCATE)

        async def one(_: int) -> None:
            nonlocal cached
            answer = await call(request, timeout=30)
            cached += CACHED in answer[-32:]

        report = await closed_loop(one, CLIENTS, seconds)
    if len(report.codes) != 1 or not report.codes["OK"]:
        sys.exit(f"not all calls were answered: {dict(report.codes)}")
    return cached / report.seconds, cached, report.codes["OK"]


def gateway_pid() -> int:
    """The gateway among this process's children."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"geofix_gateway" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    sys.exit("there is no gateway among the platform's processes")


async def compare(gateway: str, bundle: Path, request: bytes, *, pairs: int, seconds: float, what: str) -> None:
    """Print the ratio for one request."""
    answer = await cached_answer(gateway, request)
    rates: dict[str, list[float]] = {"cached": [], "constant": []}
    cpu: dict[str, list[float]] = {"cached": [], "constant": []}
    shares: dict[str, list[float]] = {"cached": [], "constant": []}
    with constant_server(bundle, answer) as (constant, constant_pid):
        servers = {"cached": (gateway, gateway_pid()), "constant": (constant, constant_pid)}
        await ask(constant, request, wait_s=30)
        for pair in range(-1, pairs):  # the first pair warms up
            for name in sorted(servers, reverse=pair % 2 == 1):
                address, pid = servers[name]
                before = processor_s(pid)
                rate, hits, calls = await load(address, request, seconds)
                if pair >= 0:
                    rates[name].append(rate)
                    shares[name].append(hits / calls)
                    cpu[name].append((processor_s(pid) - before) / calls * 1e6)
    ratios = sorted(a / b for a, b in zip(rates["cached"], rates["constant"], strict=True))
    cached, constant_rate = (statistics.median(rates[name]) for name in ("cached", "constant"))
    print(f"{what}: {len(request)} bytes asked, {len(answer)} answered")
    print(f"  cached answers {cached:7.0f} a second   constant {constant_rate:7.0f} a second")
    print(
        f"  ratio          {statistics.median(ratios):7.2f}            ({ratios[0]:.2f} to {ratios[-1]:.2f} over {pairs} pairs)"
    )
    print(f"  of all answers {100 * min(shares['cached']):7.1f} % were cached, at least")
    used = {name: statistics.median(values) for name, values in cpu.items()}
    print(
        f"  processor time {used['cached']:7.0f} us a call     constant {used['constant']:7.0f} us a call"
        f"   ratio {used['constant'] / used['cached']:.2f}"
    )


def main() -> None:
    """Measure, print; or be the constant server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one loop")
    parser.add_argument("--constant", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.constant:
        serve(ServiceSettings, lambda _: Constant(given.constant))
        return
    (image,) = jpegs(1)
    feature = pack_vector(LocalEngine(Bundle.load(given.bundle)).feature(image))
    sources = {"a 2 MP JPEG": ImageSource(image=image), "a feature": ImageSource(feature=feature)}
    with started.platform(given.bundle) as platform:
        for what, source in sources.items():
            request = pb.LocateRequest(source=source).SerializeToString()
            measured = compare(
                platform.address, given.bundle, request, pairs=given.pairs, seconds=given.seconds, what=what
            )
            asyncio.run(measured)


if __name__ == "__main__":
    main()
