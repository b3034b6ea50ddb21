"""What `geofix plan` counts with: core seconds and memory of each service, and the time of an image alone. About a minute.

Printed, and with `--write` kept in shared/geofix/data/capacity.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform as machine
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import started
from geofix.bundle import GALLERY, Bundle
from geofix.capacity import SERVICES
from geofix.gallery.layout import partition_count
from load import answered
from pictures import jpegs
from processes import processor_s

DATA = Path(__file__).parents[1] / "shared/geofix/data/capacity.json"
MEGAPIXELS = 2.0


def peak_mib(pid: int) -> float:
    """Most resident memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def row_s(dim: int) -> float:
    """Core seconds to compare one row of `dim` values, by numpy, of 100,000 that are not in the processor's caches."""
    rng = np.random.default_rng(0)
    rows, query = rng.normal(size=(100_000, dim)).astype(np.float32), rng.normal(size=dim).astype(np.float32)
    began = time.process_time()
    for _ in range(20):
        np.dot(rows, query)
    return (time.process_time() - began) / 20 / len(rows)


def processor() -> str:
    """The processor's name and how many cores there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), machine.machine())
    return f"{len(os.sched_getaffinity(0))} cores of {name}, no GPU"


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=started.default_bundle())
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    bundle = Bundle.load(given.bundle)
    images = jpegs(64, MEGAPIXELS)

    # As in a cluster, where the embedder is called and scales on its own.
    with started.platform(given.bundle, {"GEOFIX_ALSO_EMBED": "false"}) as platform:

        def run(clients: int) -> tuple[float, dict[str, float]]:
            before = {name: processor_s(platform.pids[name]) for name in SERVICES}
            report = asyncio.run(answered(platform.address, images, clients=clients, seconds=given.seconds))
            count = report.codes["OK"] + 4  # those that warmed it up too
            used = {name: (processor_s(platform.pids[name]) - before[name]) / count for name in SERVICES}
            return report.percentile_ms(99) / 1000, used

        alone_s, _ = run(1)
        _, core_s = run(8)
        memory = {name: peak_mib(platform.pids[name]) for name in SERVICES}
    rows = pq.read_metadata(bundle.path(GALLERY)).num_rows
    figures = {
        "core_s": ({name: float(f"{value:.4g}") for name, value in core_s.items()}, "core seconds of one image"),
        "memory_mib": (
            {name: round(value) for name, value in memory.items()},
            "MiB, most resident memory of a process",
        ),
        "latency_p99_s": (round(alone_s, 4), "seconds, of one client"),
        "row_s": (float(f"{row_s(bundle.manifest.embedding_dim):.3g}"), "core seconds to compare one gallery row"),
        "rows_searched": (
            round(rows * bundle.manifest.decision.cells / partition_count(rows, many=True)),
            "rows of one search",
        ),
        "cells_searched": (bundle.manifest.decision.cells, "cells of one search"),
        "embedding_dim": (bundle.manifest.embedding_dim, "values"),
    }
    record = {
        "command": "python benchmarks/capacity.py --write",
        "machine": processor(),
        "bundle": bundle.version,
        "images": f"JPEG, {MEGAPIXELS:g} megapixels",
        "measured": datetime.now(UTC).date().isoformat(),
        "figures": {name: {"value": value, "unit": unit} for name, (value, unit) in figures.items()},
    }
    print(json.dumps(record, indent=1))
    if given.write:
        DATA.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
