"""`make bench-batch`: a batch as one call of the classifier, or as a call an image.

The gateway makes a call an image: each has a status of its own, and the classifier's batcher puts together what comes together.
This prints what that costs against one call for the whole batch, on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import time
from pathlib import Path
from typing import Any

import grpc

import started
from geofix.channel import open_channel
from geofix.platform.ports import free_ports
from geofix.server import Server
from geofix.v1 import classifier_service_pb2 as pb
from geofix.v1 import classifier_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from pictures import jpegs

AT_A_TIME = 8
"""GEOFIX_BATCH_CONCURRENCY's default."""


async def one_call(stub: Any, images: list[bytes]) -> float:
    """Seconds of one call for all images."""
    begun = time.perf_counter()
    await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=image) for image in images]), timeout=60)
    return time.perf_counter() - begun


async def a_call_each(stub: Any, images: list[bytes]) -> float:
    """Seconds of a call for each image, `AT_A_TIME` at a time."""
    begun, limit = time.perf_counter(), asyncio.Semaphore(AT_A_TIME)

    async def one(image: bytes) -> None:
        async with limit:
            await stub.Classify(pb.ClassifyRequest(sources=[ImageSource(image=image)]), timeout=60)

    await asyncio.gather(*map(one, images))
    return time.perf_counter() - begun


async def measure(bundle: Path, batch: int, pairs: int) -> None:
    """Print the medians."""
    images = jpegs(batch)
    settings = ClassifierSettings(listen=f"127.0.0.1:{free_ports(1)[0]}", bundle=bundle)
    server = Server(settings, ClassifierService(settings))
    await server.start()
    ratios, whole, single = [], [], []
    async with open_channel(settings.listen) as channel:
        stub = rpc.ClassifierServiceStub(channel)
        while True:
            try:
                await stub.GetModelInfo(pb.ClassifierServiceGetModelInfoRequest(), timeout=60)
                break
            except grpc.RpcError:  # it is loading
                await asyncio.sleep(0.2)
        await one_call(stub, images)
        for _ in range(pairs):
            whole.append(await one_call(stub, images))
            single.append(await a_call_each(stub, images))
            ratios.append(whole[-1] / single[-1])
    await server.stop()
    print(f"{batch} images of 2 MP: one call {batch / statistics.median(whole):.1f} a second, ", end="")
    print(f"a call each {batch / statistics.median(single):.1f} a second")
    print(
        f"  a call each ÷ one call {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {pairs} pairs)"
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # calls while it is loading are refused, which is no news here
    asyncio.run(measure(given.bundle, given.batch, given.pairs))


if __name__ == "__main__":
    main()
