"""Ray for `geofix gallery add --engine ray`: a cluster that is joined, or one of this machine that is started and ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from geofix.errors import ConfigurationError, Unavailable

_LOCAL = {
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,  # reports alone pass through it
    "log_to_driver": False,
}
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray takes this machine's address to be 127.0.0.1, on any system."""


@contextlib.contextmanager
def ray_running(cores: int) -> Iterator[None]:
    """The cluster of RAY_ADDRESS, or without it a Ray on this machine with so many cores at least, which listens on loopback.

    Enter it before any channel of gRPC is open: Ray forks, and in a fork of a process with its threads Python may wait forever.

    Raises:
        ConfigurationError: Ray is not installed.
        Unavailable: it does not start.
    """
    ray = imported_ray()
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {**_LOCAL, "num_cpus": max(os.cpu_count() or 1, cores)}
    try:
        ray.init(address or "local", logging_level="ERROR", **here)
    except Exception as error:  # Ray raises nothing narrower
        what = f"the Ray cluster at {address} cannot be joined" if address else "Ray cannot be started here"
        raise Unavailable(f"{what}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def imported_ray() -> Any:
    """The module `ray`.

    Raises:
        ConfigurationError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would be sent to its makers
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault(_LOOPBACK, "0")  # read when Ray is imported
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigurationError(
            "--engine ray needs Ray, here and on every node of the cluster: pip install 'geofix[gallery,ray]'"
        ) from error
    return ray
