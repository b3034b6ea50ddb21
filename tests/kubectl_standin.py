"""A `kubectl` for platforms of processes on this machine: what `k8s/blue-green.sh` calls, over a folder in place of a cluster.

The folder holds `geofix-SLOT.json`, the addresses of the slot's services by name, and `geofix.json`, the Service that clients
call. A rollout is over when the service's own health says so. Every call is kept in `calls`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from geofix.probe import is_ready

CLUSTER = Path(os.environ["CLUSTER"])
EDGE = CLUSTER / "geofix.json"


def rollout(namespace: str, name: str, timeout_s: float) -> int:
    """0 when the service of a slot is ready, 1 if it is not within `timeout_s`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        addresses = CLUSTER / f"{namespace}.json"
        address = json.loads(addresses.read_text()).get(name) if addresses.exists() else None
        if address and is_ready({"SERVICE": name, "GEOFIX_LISTEN": address}):
            return 0
        time.sleep(0.1)
    return 1


def main(words: list[str]) -> int:
    """The exit code of one call."""
    with (CLUSTER / "calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    namespace = words[words.index("-n") + 1] if "-n" in words else ""
    words = [word for word in words if word not in ("-n", namespace)]
    match words:
        case ["rollout", "status", deployment, "--timeout", seconds]:
            return rollout(namespace, deployment.removeprefix("deployment/"), float(seconds.removesuffix("s")))
        case ["get", "service", "geofix", *_]:
            print(json.loads(EDGE.read_text())["spec"]["externalName"] if EDGE.exists() else "")
        case ["apply", "-f", "-"]:
            content = sys.stdin.read()
            if '"kind":"Service"' in content:
                partial = EDGE.with_suffix(".partial")
                partial.write_text(content)
                partial.replace(EDGE)  # whoever looks sees the old one or the new one
        case ["create", "namespace", *_] | ["apply", "-k", _] | ["delete", "namespace", _]:
            pass
        case _:
            print(f"the stand-in knows no `kubectl {' '.join(words)}`", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
