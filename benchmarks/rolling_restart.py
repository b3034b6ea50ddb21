"""A rolling restart of every service under load: `python benchmarks/rolling_restart.py [--clients N] [--bundle DIR]`.

Two replicas of each service as processes; clients of the SDK with its default retry call without a pause while one replica after
another is ended by SIGTERM and started again. Prints the calls that were answered and those that failed; exit code 1 if any did.
About two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from pathlib import Path

from geofix.bundle import Bundle
from geofix.client import Client
from geofix.errors import GeofixError
from geofix.platform.child import Child
from replicas import stores, until_ready
from started import ROOT, default_bundle

GRACE_S = 30.0


class Load:
    """Clients that call until they are told to stop; every image is new to the cache."""

    def __init__(self, address: str, clients: int) -> None:
        self.answered = 0
        self.errors: list[str] = []
        self._image = (ROOT / "samples/italy.jpg").read_bytes()
        self._number = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(address,)) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, address: str) -> None:
        with Client(address) as client:
            while not self._stop.is_set():
                try:
                    client.locate(self._image + next(self._number).to_bytes(8, "little"))
                    with self._lock:
                        self.answered += 1
                except GeofixError as error:
                    with self._lock:
                        self.errors.append(f"{type(error).__name__}: {error.message}")


def main() -> int:
    """Start, load, roll, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--clients", type=int, default=2)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="geofix-rolling-") as directory,
        stores(Bundle.load(asked.bundle), Path(directory)) as found,
    ):
        specs = found.specs(2)
        children = [Child(spec, Path(directory) / f"{spec.name}.log") for spec in specs]
        try:
            for child in children:
                child.start()
            for child in children:
                until_ready(child.spec, child)
            gateways = ",".join(spec.address for spec in specs if spec.name.startswith("gateway"))
            with Load(f"ipv4:{gateways}", asked.clients) as load:
                time.sleep(2)
                for child in children:
                    before = len(load.errors), load.answered, time.monotonic()
                    child.terminate()
                    if not child.wait(GRACE_S):
                        raise SystemExit(f"{child.spec.name} did not end within {GRACE_S:.0f} s of SIGTERM")
                    code = child.exit_code
                    child.start(first=False)
                    until_ready(child.spec, child)
                    time.sleep(3)  # until everybody is connected again, as readiness and rollout see to it in a cluster
                    failed, answered = len(load.errors) - before[0], load.answered - before[1]
                    seconds = time.monotonic() - before[2]
                    print(
                        f"{child.spec.name:<13} exit code {code}, {seconds:5.1f} s, {answered:5d} answered, {failed} failed",
                        flush=True,
                    )
        finally:
            for child in reversed(children):
                child.kill()
        print(f"in all {load.answered} answered, {len(load.errors)} failed")
        for text in sorted(set(load.errors)):
            print(f"  {load.errors.count(text)} x {text}")
        return 1 if load.errors or not load.answered else 0


if __name__ == "__main__":
    raise SystemExit(main())
