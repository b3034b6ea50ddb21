"""`make load`: how many images a second the platform answers, and how long an answer takes.

    python benchmarks/load.py                                  # closed loop, 8 clients, 20 s
    python benchmarks/load.py --rate 50 --arrivals poisson     # open loop
    python benchmarks/load.py --address 127.0.0.1:50051        # a platform that runs already

Answers are computed, not taken from the cache, unless --cached is given.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import started
from driver import OK, Arrivals, Call, Report, closed_loop, loopback, open_loop
from geofix.channel import open_channel
from geofix.tls import PeerCredentials
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from pictures import jpegs


async def load(
    address: str,
    images: list[bytes],
    *,
    clients: int,
    seconds: float,
    rate: float | None,
    arrivals: Arrivals,
    deadline_s: float,
    cached: bool,
    peer: PeerCredentials | None = None,
) -> Report:
    """Load the gateway at a loopback address; closed loop of `clients` without a `rate` (calls a second), else open loop."""
    options = pb.LocateOptions(bypass_cache=not cached)
    requests = [pb.LocateRequest(source=ImageSource(image=image), options=options) for image in images]
    async with open_channel(loopback(address), peer=peer) as channel:
        stub = rpc.GeolocationServiceStub(channel)

        async def call(number: int) -> None:
            await stub.Locate(requests[number % len(requests)], timeout=deadline_s)

        await warm_up(call, len(requests) if cached else 4)
        if rate is None:
            return await closed_loop(call, clients, seconds)
        return await open_loop(call, rate, seconds, arrivals=arrivals)


async def answered(
    address: str, images: list[bytes], *, clients: int, seconds: float, peer: PeerCredentials | None = None
) -> Report:
    """A closed loop of images that are all computed, none taken from the cache.

    Raises:
        SystemExit: not every call was answered.
    """
    report = await load(
        address,
        images,
        clients=clients,
        seconds=seconds,
        rate=None,
        arrivals="constant",
        deadline_s=30,
        cached=False,
        peer=peer,
    )
    if set(report.codes) != {OK}:
        raise SystemExit(f"not every call was answered: {dict(report.codes)}")
    return report


async def capacity(
    address: str, images: list[bytes], *, clients: int, seconds: float, peer: PeerCredentials | None = None
) -> float:
    """Images a second of such a closed loop."""
    return (await answered(address, images, clients=clients, seconds=seconds, peer=peer)).rate


async def warm_up(call: Call, calls: int) -> None:
    """A few calls that are not measured."""
    await closed_loop(call, 2, 60, calls=calls)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="gateway that runs already, on 127.0.0.1; default: start a platform")
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, help="calls a second: makes it an open loop")
    parser.add_argument("--arrivals", choices=("constant", "poisson"), default="poisson")
    parser.add_argument("--deadline", type=float, default=10, help="of each call, seconds")
    parser.add_argument("--megapixels", type=float, default=2.0)
    parser.add_argument("--images", type=int, default=64, help="different images, sent by turns")
    parser.add_argument("--cached", action="store_true")
    given = parser.parse_args()
    images = jpegs(given.images, given.megapixels)
    with started.address(given.address, given.bundle) as address:
        report = asyncio.run(
            load(
                address,
                images,
                clients=given.clients,
                seconds=given.seconds,
                rate=given.rate,
                arrivals=given.arrivals,
                deadline_s=given.deadline,
                cached=given.cached,
            )
        )
    kind = f"{given.rate} a second, {given.arrivals}" if given.rate else f"{given.clients} clients"
    print(
        f"{kind}; {given.megapixels} MP JPEGs; {'cached' if given.cached else 'computed'}; deadline {given.deadline} s"
    )
    print("\n".join(report.lines()))
    print(f"in time    {report.goodput(given.deadline):8.1f} a second")


if __name__ == "__main__":
    main()
