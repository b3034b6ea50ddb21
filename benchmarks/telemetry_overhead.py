"""What metrics and traces cost: throughput of a platform with both on ÷ one with both off, in interleaved pairs.

    python benchmarks/telemetry_overhead.py          # 9 pairs of 2 x 10 s: about 4 minutes

Both platforms run all the time, and are loaded by turns. Every request is traced, and the metrics are read every 5 s,
as Prometheus would. The collector of the traces is in this process and throws them away; its time is on the same
cores, against the platform.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc

import started
from geofix.platform import Platform
from load import capacity
from pairs import compare, print_cost
from pictures import jpegs

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class _Sink(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self.requests = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return grpc.unary_unary_rpc_method_handler(self._take) if handler_call_details.method == _EXPORT else None

    def _take(self, request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: ARG002  # gRPC's signature
        self.requests += 1
        return b""


@contextlib.contextmanager
def sink() -> Iterator[tuple[str, _Sink]]:
    """A collector that throws spans away: its endpoint, and how many exports came."""
    server, handler = grpc.server(ThreadPoolExecutor(1)), _Sink()
    server.add_generic_rpc_handlers((handler,))
    endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield endpoint, handler
    finally:
        server.stop(0).wait()


async def rate(platform: Platform, images: list[bytes], options: argparse.Namespace) -> float:
    """Images a second, while the metrics are read where there are any."""

    def read() -> None:
        for url in platform.metrics.values():
            with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310  # an address of our own
                page.read()

    async def scrape() -> None:
        while True:
            await asyncio.to_thread(read)
            await asyncio.sleep(5)

    scraping = asyncio.create_task(scrape())
    try:
        return await capacity(platform.address, images, clients=options.clients, seconds=options.seconds)
    finally:
        scraping.cancel()


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10, help="of load on each platform, in each pair")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    images = jpegs(32, options.megapixels)
    with contextlib.ExitStack() as stack:
        endpoint, received = stack.enter_context(sink())
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geofix-overhead-")))
        off = stack.enter_context(started.platform(options.bundle, data_dir=data / "off"))
        signals = {"GEOFIX_METRICS": "on", "GEOFIX_OTEL": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        on = stack.enter_context(started.platform(options.bundle, signals, data / "on"))

        def measure(platform: Platform) -> float:
            return asyncio.run(rate(platform, images, options))

        ratios = compare(("on", "off"), (partial(measure, on), partial(measure, off)), options.pairs)
        if not received.requests:
            raise SystemExit("no traces arrived: nothing was measured")
    print_cost("metrics and traces", ratios)


if __name__ == "__main__":
    main()
