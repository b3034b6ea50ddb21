"""Ports of this machine's loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import ExitStack

from geofix.platform.errors import PlatformError

HOST = "127.0.0.1"


def free_ports(count: int, but: Collection[int | None] = ()) -> list[int]:
    """Ports that nothing listens on now, all different and none of `but`, which are meant for others."""
    found = _free_ports(count + len(but))
    return [port for port in found if port not in but][:count]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def claim_port(port: int, option: str = "--port") -> int:
    """The port, or with 0 a free one; `option` is what people choose it with.

    Raises:
        PlatformError: something listens on it, or this user may not.
    """
    if port == 0:
        return free_ports(1)[0]
    with socket.socket() as probe:
        # As the server will: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except PermissionError as error:
            raise PlatformError(
                f"port {port} cannot be used ({error.strerror}): choose one above 1023 with {option}"
            ) from error
        except OSError as error:
            raise PlatformError(
                f"port {port} is in use: stop what listens on it (perhaps another `geofix up`), or choose another with {option}"
            ) from error
    return port
