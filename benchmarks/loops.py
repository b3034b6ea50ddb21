"""A way of locating images in a process of its own, which runs as a loop over images in its memory and is told when.

The process reads lines `images SECONDS WORKERS THREADS` and writes for each a line of JSON, a `Run`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pictures import jpegs


@dataclass(frozen=True)
class Run:
    """Images located, the seconds that it took, and the median milliseconds of one."""

    images: int
    seconds: float
    p50_ms: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


class LoopProcess:
    """A started script that ends with `serve`."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, seconds: float, workers: int = 1, threads: int = 0) -> Run:
        """`workers` loops at a time, each pass of a network on `threads` threads (0: all cores).

        Raises:
            SystemExit: the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds} {workers} {threads}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{Path(str(self._process.args)).name} ended")
        return Run(**json.loads(line))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def serve(make: Callable[[int], Callable[[bytes], object]], images: int, megapixels: float) -> None:
    """Read commands until the input ends. `make(threads)` gives what locates an image, once a number."""
    ways: dict[int, Callable[[bytes], object]] = {}
    files = jpegs(images, megapixels)
    for line in sys.stdin:
        seconds, workers, threads = line.split()
        if int(threads) not in ways:
            ways[int(threads)] = make(int(threads))
            for image in files[:4]:
                ways[int(threads)](image)
        print(json.dumps(asdict(_loop(ways[int(threads)], files, float(seconds), int(workers)))), flush=True)


def _loop(locate: Callable[[bytes], object], files: Sequence[bytes], seconds: float, workers: int) -> Run:
    times: list[list[float]] = [[] for _ in range(workers)]
    began = time.perf_counter()

    def work(number: int) -> None:
        position = number * len(files) // workers
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            locate(files[position % len(files)])
            times[number].append((time.perf_counter() - start) * 1000)
            position += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    found = sorted(each for some in times for each in some)
    return Run(len(found), taken, found[len(found) // 2])
