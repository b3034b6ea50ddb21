"""From the start of a service's process to ready, as a pod has it: `python benchmarks/startup.py [--bundle DIR] [--runs N]`.

Each service is started alone against stores and services that already run (a Milvus Lite, a Valkey, the other services),
several times; the median and the worst are printed in seconds, with its resident memory when it is ready. About a minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from geofix.bundle import Bundle
from geofix.platform.child import Child
from geofix.platform.ports import HOST, free_ports
from geofix.platform.probe import Probe
from processes import resident_mb
from replicas import stores
from started import default_bundle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="geofix-startup-") as directory,
        stores(Bundle.load(asked.bundle), Path(directory)) as platform,
    ):
        specs = platform.specs(1)
        others = [
            Child(spec, Path(directory) / f"{spec.name}.log") for spec in specs if not spec.name.startswith("gateway")
        ]
        for child in others:
            child.start()
        try:
            print(f"{'service':<12} {'median s':>9} {'worst s':>9} {'resident MB':>12}")
            for spec in specs:
                address = f"{HOST}:{free_ports(1)[0]}"
                fresh = replace(spec, address=address, environment={**spec.environment, "GEOFIX_LISTEN": address})
                seconds, memory = [], 0.0
                for _ in range(asked.runs):
                    child, probe = Child(fresh, Path(directory) / "one.log"), Probe(fresh)
                    began = time.monotonic()
                    child.start()
                    while not probe.ready():
                        if child.pid is None or time.monotonic() - began > 120:
                            raise SystemExit(child.last_lines())
                        time.sleep(0.02)
                    seconds.append(time.monotonic() - began)
                    assert child.pid is not None
                    memory = max(memory, resident_mb(child.pid))
                    child.kill()
                    probe.close()
                name = spec.name.rpartition("-")[0]
                print(f"{name:<12} {statistics.median(seconds):9.2f} {max(seconds):9.2f} {memory:12.0f}", flush=True)
        finally:
            for child in others:
                child.kill()


if __name__ == "__main__":
    main()
