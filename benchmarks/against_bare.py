"""What the platform costs: against one bare process that does the same work, and against the published reference's way.

    python benchmarks/against_bare.py                          # orbit: some 6 minutes
    python benchmarks/against_bare.py --bundle DIR --reference # a bundle of benchmarks/b4.py: some 10 minutes; needs torch

Platform and bare process share one Milvus server (or, with --lite, have a Milvus Lite each, inside a process of theirs) and take
turns on the same cores. The bare process runs in the configuration that is fastest here: loops at a time, and threads of a pass.
The driver of the platform is on the same cores, against the platform; its processor time is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

import started
from driver import Report
from geofix.bundle import GALLERY, Bundle
from geofix.gallery.loader import load_bundle_gallery
from load import answered
from loops import LoopProcess
from pairs import compare, median_interval
from pictures import jpegs
from retrieval_milvus import server, settle

CONFIGURATIONS = ((1, 0), (2, 1), (2, 2), (3, 1), (4, 1))
"""Loops at a time, threads of a pass (0: all cores)."""


def fastest(bare: LoopProcess, seconds: float) -> tuple[int, int]:
    """The configuration that locates most images a second; each is printed."""
    rates = {}
    for workers, threads in CONFIGURATIONS:
        bare.run(1, workers, threads)
        rates[workers, threads] = bare.run(seconds, workers, threads).rate
        print(
            f"bare: {workers} loops, {threads or 'all'} threads a pass: {rates[workers, threads]:.2f} images a second"
        )
    return max(rates, key=lambda each: rates[each])


def located(address: str, images: list[bytes], clients: int, seconds: float) -> Report:
    """A closed loop at the platform."""
    return asyncio.run(answered(address, images, clients=clients, seconds=seconds))


def added_ms(address: str, images: list[bytes], bare: LoopProcess, pairs: int, seconds: float) -> list[float]:
    """p50 of the platform at one client less that of one bare loop on all cores, of each pair, milliseconds."""
    added = []
    for pair in range(pairs):
        if pair % 2:
            alone, ours = bare.run(seconds).p50_ms, located(address, images, 1, seconds).percentile_ms(50)
        else:
            ours, alone = located(address, images, 1, seconds).percentile_ms(50), bare.run(seconds).p50_ms
        print(f"pair {pair + 1}: one client, p50: platform {ours:.1f} ms, bare {alone:.1f} ms", flush=True)
        added.append(ours - alone)
    return added


def print_ratio(what: str, values: Sequence[float], unit: str = "") -> None:
    """The median with its interval."""
    middle, low, high = median_interval(values)
    print(
        f"**{what}: {middle:.2f}{unit}** ({low:.2f} to {high:.2f}, 95 % interval of the median, {len(values)} pairs)\n"
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--lite", action="store_true", help="Milvus Lite in place of a server")
    parser.add_argument("--reference", action="store_true", help="compare with the reference's way too")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8, help="of each loop")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    images = jpegs(32, options.megapixels)
    bundle = Bundle.load(options.bundle)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geofix-bare-")))
        given = ["--bundle", str(options.bundle), "--megapixels", str(options.megapixels)]
        if options.lite:
            uri, milvus, settings = str(directory / "milvus.db"), None, {}
            load_bundle_gallery(bundle, uri)
        else:
            uri, milvus, _ = stack.enter_context(server("", directory))
            settings = {"GEOFIX_MILVUS_URI": uri}
        platform = stack.enter_context(started.platform(options.bundle, settings))
        if milvus:
            print(settle(milvus, quiet_s=30, most_s=300), flush=True)
        bare = LoopProcess("bare.py", *given, "--milvus", uri)
        stack.callback(bare.close)
        workers, threads = fastest(bare, options.seconds)
        cores: list[float] = []

        def ours() -> float:
            report = located(platform.address, images, options.clients, options.seconds)
            cores.append(report.driver_cpu_s / report.seconds)
            return report.rate

        ours()
        names = ("platform", "bare")
        ratios = compare(names, (ours, lambda: bare.run(options.seconds, workers, threads).rate), options.pairs)
        print_ratio("images a second, platform ÷ bare", ratios)
        print_ratio(
            "p50 added at one client",
            added_ms(platform.address, images, bare, options.pairs, options.seconds / 2),
            " ms",
        )
        if options.reference:
            reference = LoopProcess("reference_way.py", *given)
            stack.callback(reference.close)
            reference.run(2)
            names = ("platform", "reference")
            print_ratio(
                "images a second, platform ÷ the reference's way",
                compare(names, (ours, lambda: reference.run(options.seconds).rate), options.pairs),
            )
        rows = pq.ParquetFile(bundle.path(GALLERY)).metadata.num_rows
        kind = "Milvus Lite" if options.lite else "Milvus server"
        print(
            f"{bundle.version}, {rows:,} gallery images, {kind}, {options.megapixels} MP JPEGs, "
            f"{options.clients} clients; the driver used {sum(cores) / len(cores):.2f} cores"
        )


if __name__ == "__main__":
    main()
