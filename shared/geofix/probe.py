"""`python -m geofix.probe`: whether the service of this container is ready, for the health check of images; exit code 0 or 1.

Asks GEOFIX_LISTEN (or GEOFIX_HEALTH_LISTEN, which speaks no TLS) of the service that `SERVICE` names, over gRPC health, or the
web service's /readyz over HTTP. Kubernetes needs none of this: its probes speak gRPC and HTTP themselves.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Mapping

from geofix.platform.child import Spec
from geofix.platform.probe import Probe

HEALTH_NAMES = {
    "classifier": "geofix.v1.ClassifierService",
    "embedder": "geofix.v1.EmbedderService",
    "retrieval": "geofix.v1.RetrievalService",
    "gateway": "geofix.v1.GeolocationService",
}
"""What health calls each gRPC service."""

_TIMEOUT_S = 3.0


def is_ready(environment: Mapping[str, str]) -> bool:
    """Whether the service that the environment describes says that it is ready.

    Raises:
        KeyError: SERVICE or GEOFIX_LISTEN is not set, or names no service.
    """
    name = environment["SERVICE"]
    plain = "" if name == "web" else environment.get("GEOFIX_HEALTH_LISTEN", "")
    host, _, port = (plain or environment["GEOFIX_LISTEN"]).rpartition(":")
    address = f"{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"  # noqa: S104 -- compared, not listened on
    if name == "web":
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
    probe = Probe(Spec(name, (), {} if plain else environment, address, HEALTH_NAMES[name]))
    try:
        return probe.ready()
    finally:
        probe.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(os.environ) else 1)
