"""What happens beyond the capacity: an open loop at several times of it, whose callers give up at a deadline.

    python benchmarks/overload.py [--bundle DIR] [--times 4]       # about a minute

Printed: the peak (a closed loop), what the open loop answered within the deadline ÷ the peak, the p99 of those answers, and
how many answers came after their deadline.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import started
from driver import OK
from load import capacity, load
from pictures import jpegs


async def overload(address: str, images: list[bytes], options: argparse.Namespace) -> None:
    """Measure and print."""
    peak = await capacity(address, images, clients=options.clients, seconds=options.seconds)
    print(f"peak       {peak:8.2f} images a second, {options.clients} clients")
    report = await load(
        address,
        images,
        clients=0,
        seconds=2 * options.seconds,
        rate=options.times * peak,
        arrivals="poisson",
        deadline_s=options.deadline,
        cached=False,
    )
    late = sum(each.code == OK and each.latency_s > options.deadline for each in report.outcomes)
    good = report.goodput(options.deadline)
    print("\n".join(report.lines()))
    print(f"goodput ÷ peak at {options.times:g} times the peak: {good / peak:.2f}")
    print(
        f"p99 of answers {report.percentile_ms(99):.0f} ms, deadline {1000 * options.deadline:.0f} ms; answered after it: {late}"
    )


def main() -> None:
    """Start a platform, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--times", type=float, default=4)
    parser.add_argument("--deadline", type=float, default=2, help="of each call, seconds")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=15, help="of the closed loop; the open one takes twice as long"
    )
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    images = jpegs(32, options.megapixels)
    with started.platform(options.bundle) as platform:
        asyncio.run(overload(platform.address, images, options))


if __name__ == "__main__":
    main()
