"""One child process of the supervisor: its start, its log and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

RESTARTS, WINDOW_S = 3, 60.0
"""A child that died is started again at most so often within so many seconds."""

_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Spec:
    """What to run.

    Attributes:
        name: for people, for the log file, for `Platform.pids`.
        command: the program, by its full path, and its arguments.
        environment: all of it.
        address: host:port that it listens on; empty where it listens on none.
        health_name: the gRPC service whose health says that it is ready; empty for what is no gRPC service.
        info_method: a method of that service without arguments, asked why it is not ready; empty where the answer could change.
        admin: host:port that it serves the gallery's administration on; empty where it does not.
        metrics: URL of its Prometheus metrics; empty where it serves none.
        http_path: a path that answers 200 when it is ready; empty for what speaks no HTTP.
        without: what people miss when it cannot be kept alive and the platform goes on; empty where the platform stops then.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    address: str = ""
    health_name: str = ""
    info_method: str = ""
    admin: str = ""
    metrics: str = ""
    http_path: str = ""
    without: str = ""

    @property
    def essential(self) -> bool:
        """Whether the platform stops when it cannot be kept alive."""
        return not self.without


@dataclass
class Child:
    """A process made from a spec, again and again if need be. Not for several threads.

    Its parent is the thread that calls `start`: on Linux it is killed when that thread ends.
    """

    spec: Spec
    log: Path
    pipe: bool = False
    ready: bool = False
    started_at: float = 0.0
    _process: subprocess.Popen[str] | None = None
    _deaths: deque[float] = field(default_factory=deque)

    def start(self, *, first: bool = True) -> None:
        """Start the process, in a session of its own so that the terminal's Ctrl-C reaches the supervisor alone."""
        self.ready = False
        self.started_at = time.monotonic()
        with self.log.open("w" if first else "a") as log:
            self._process = subprocess.Popen(  # the command is ours
                [sys.executable, "-S", "-E", str(_GUARD), str(os.getpid()), *self.spec.command],
                env=dict(self.spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.pipe else log,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    @property
    def output(self) -> IO[str]:
        """Its standard output, where it was asked for with `pipe`."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def exit_code(self) -> int | None:
        """Its exit status (minus the signal's number where a signal ended it), or None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def may_restart(self) -> int:
        """Count a death; which restart this would be (1 ...), or 0 where it died too often."""
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - WINDOW_S:
            self._deaths.popleft()
        return len(self._deaths) if len(self._deaths) <= RESTARTS else 0

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        self._signal(signal.SIGKILL)
        self.wait(5.0)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:  # it ended in this moment, or has not made its session yet
                self._process.send_signal(number)

    def how_it_ended(self) -> str:
        """For people: `exit code 1`, `killed by SIGKILL`."""
        code = self.exit_code
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    def last_lines(self, count: int = 12) -> str:
        """The end of its log, indented."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"  {line[:400]}" for line in lines[-count:]) or "  (its log is empty)"
