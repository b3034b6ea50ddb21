"""Starts `geofix up` as a user does, and finds every process that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc

from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource

GEOFIX_UP = (str(Path(sys.executable).with_name("geofix")), "up")
_MARK = "GEOFIX_TEST_MARK"


class Up:
    """A `geofix up`, its output, and the processes that descend from it."""

    def __init__(self, bundle: Path, data_dir: Path, port: int, **settings: str) -> None:
        self.mark = uuid.uuid4().hex
        self.port = port
        self._data_dir = data_dir
        self._output = data_dir.with_name(f"{data_dir.name}-{self.mark}.out")
        environment = clean_environment() | settings | {_MARK: self.mark}
        command = [*GEOFIX_UP, "--bundle", str(bundle), "--data-dir", str(data_dir), "--port", str(port), "--no-web"]
        with self._output.open("w") as out:
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)

    @property
    def output(self) -> str:
        return self._output.read_text()

    def until(self, text: str, seconds: float = 60) -> None:
        """Wait until the output holds `text`."""
        wait_until(lambda: text in self.output or self.process.poll() is not None, seconds, lambda: self.output)
        assert text in self.output, self.output

    def until_ready(self, seconds: float = 120) -> None:
        self.until(f"geofix is ready: gRPC at 127.0.0.1:{self.port} (Ctrl-C stops)", seconds)

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def children(self) -> dict[str, int]:
        """Pids by the name of their service (`gallery` for the loader), without the supervisor."""
        found = {}
        for pid in self.processes():
            if pid != self.process.pid:
                found[_name_of(pid)] = pid
        return found

    def kill(self, name: str) -> None:
        """Kill a child as soon as it runs; one just started has no name of its own for a moment."""
        found: list[int] = []

        def seen() -> bool:
            found.extend(pid for each, pid in self.children().items() if each == name)
            return bool(found)

        wait_until(seen, 10, self.children)
        os.kill(found[0], signal.SIGKILL)

    def processes(self) -> list[int]:
        """Pids of the supervisor and of all that it started."""
        return [pid for pid in _pids() if self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        """By the environment that children inherit; Valkey overwrites its own, so by its directory."""
        process = Path("/proc") / str(pid)
        try:
            if f"{_MARK}={self.mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                return True
            return _name_of(pid) == "valkey" and (process / "cwd").readlink().is_relative_to(self._data_dir)
        except OSError:  # it ended
            return False

    def end(self) -> None:
        """Leave nothing, whatever the test did."""
        self.process.kill()
        self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GEOFIX_")}


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _name_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return "ended"
    for word in words:
        if word.startswith("geofix_"):
            return word.removeprefix("geofix_")
        if word == "geofix.platform.loading":
            return "gallery"
    return "valkey" if "valkey-server" in words[0] else words[0]


def wait_until(condition: Callable[[], bool], seconds: float, explain: Callable[[], object] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {explain()}"
        time.sleep(0.05)


def locate(address: str, image: bytes, seconds: float = 60) -> pb.LocateResponse:
    with grpc.insecure_channel(address) as channel:
        request = pb.LocateRequest(source=ImageSource(image=image))
        answer: pb.LocateResponse = rpc.GeolocationServiceStub(channel).Locate(
            request, timeout=seconds, wait_for_ready=True
        )
        return answer
