"""Builds and runs docker-compose.yml as a user does: healthy, located through the published port, killed, rolled, stopped.

    python tools/compose_test.py                                   # what users run, Milvus of Milvus's own image
    python tools/compose_test.py -f docker-compose.standin.yml     # on machines that reach no registry: docs/docker.md

Prints each step with its seconds; exit code 1 at the first that fails. DOCKER and DOCKER_COMPOSE name the commands (`docker`,
`docker compose`), IN_NETWORK a prefix that runs a command where published ports answer.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPOSE = shlex.split(os.environ.get("DOCKER_COMPOSE", "docker compose"))
DOCKER = shlex.split(os.environ.get("DOCKER", "docker"))
INSIDE = shlex.split(os.environ.get("IN_NETWORK", ""))
FILES = ["-f", "docker-compose.yml", *sys.argv[1:]]
GEOFIX = str(ROOT / ".venv/bin/geofix")
SERVICES = ("classifier", "embedder", "retrieval", "gateway")


def compose(*words: str, seconds: float = 900) -> str:
    """Run compose; its output.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        [*COMPOSE, *FILES, *words], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        sys.exit(f"compose {' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def locate() -> int:
    """How many of the samples the platform answers through the gateway's published port."""
    samples = sorted(str(path) for path in (ROOT / "samples").glob("*.jpg"))
    done = subprocess.run(
        [*INSIDE, GEOFIX, "locate", "--json", *samples], capture_output=True, text=True, timeout=120, check=False
    )
    return sum('"lat"' in line for line in done.stdout.splitlines())


class Load:
    """Calls through the published port without a pause, with the client's default retry, in a process of its own."""

    CODE = """
import sys, time
from pathlib import Path
from geofix.client import Client
from geofix.errors import GeofixError
image = Path(sys.argv[1]).read_bytes()
done = failed = 0
with Client("127.0.0.1:50051") as client:
    print("begun", flush=True)
    import select
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        try:
            client.locate(image + done.to_bytes(4, "little"))
            done += 1
        except GeofixError as error:
            failed += 1
            print(f"  failed: {error.message}", file=sys.stderr, flush=True)
print(f"{done} {failed}", flush=True)
"""

    def __enter__(self) -> Load:
        image = str(ROOT / "samples/italy.jpg")
        command = [*INSIDE, str(ROOT / ".venv/bin/python"), "-c", self.CODE, image]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.done = self.failed = 0
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate("stop\n", timeout=60)
        self.done, self.failed = (int(word) for word in output.split()[-2:])


def step(name: str, began: float) -> None:
    """Say that a step is over."""
    print(f"{name:<58} {time.monotonic() - began:6.1f} s", flush=True)


def check(condition: bool, what: str) -> None:
    """Stop where something is not as it should be."""
    if not condition:
        sys.exit(f"FAILED: {what}\n{compose('ps', '--all')}\n{compose('logs', '--tail', '15')}")


def main() -> None:
    """Every step, in order."""
    began = time.monotonic()
    compose("up", "--wait", "--wait-timeout", "300", "--detach")
    step("up: every service healthy", began)
    began = time.monotonic()
    check(locate() == 8, "not all samples were located")
    step("8 samples located through the gateway's published port", began)
    for service in SERVICES:
        began = time.monotonic()
        compose("kill", "--signal", "SIGKILL", service)
        compose("up", "--wait", "--wait-timeout", "120", "--no-recreate", "--detach", service)
        while locate() != 8:
            check(time.monotonic() - began < 60, f"no answers 60 s after {service} was killed")
        step(f"{service} killed and started: 8 samples located", began)
    began = time.monotonic()
    compose(
        "up", "--wait", "--detach", "--no-recreate", *(f"--scale={name}=2" for name in SERVICES if name != "gateway")
    )
    step("two replicas of classifier, embedder and retrieval", began)
    began = time.monotonic()
    with Load() as load:
        for service in SERVICES[:-1]:
            for replica in ("1", "2"):
                restart(f"geofix-{service}-{replica}")
    print(f"rolling restart under load: {load.done} answered, {load.failed} failed")
    check(load.failed == 0 and load.done > 0, "requests failed during the rolling restart")
    step("each replica restarted in turn", began)
    began = time.monotonic()
    compose("stop", "gateway", "classifier")
    codes = compose("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}", "gateway", "classifier").split()
    check(set(codes[1::2]) == {"0"}, f"exit codes after a stop: {codes}")
    step("stopped with exit code 0", began)


def restart(container: str) -> None:
    """Stop and start a container, and wait until it is healthy."""
    subprocess.run([*DOCKER, "restart", "--time", "30", container], check=True, capture_output=True, timeout=60)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = subprocess.run(
            [*DOCKER, "inspect", "--format", "{{.State.Health.Status}}", container],
            capture_output=True,
            text=True,
            check=True,
        )
        if state.stdout.strip() == "healthy":
            time.sleep(2)  # the gateway looks for it within a second
            return
        time.sleep(0.5)
    sys.exit(f"{container} is not healthy after 60 s")


if __name__ == "__main__":
    watchdog = threading.Timer(900, lambda: os._exit(1))
    watchdog.daemon = True
    watchdog.start()
    try:
        main()
    finally:
        compose("down", "--volumes", "--timeout", "30")
