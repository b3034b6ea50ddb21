"""The bootstrap of every service: listening, health, reflection, readiness, limits, and a drain on SIGTERM. Written once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from geofix.access import Access, AccessSettings
from geofix.errors import ConfigurationError, GeofixError, Unavailable
from geofix.interceptors import CallInterceptor
from geofix.settings import ServiceSettings
from geofix.telemetry.metrics import READY, TASKS, VERSIONS
from geofix.telemetry.process import started as telemetry
from geofix.tls import server_credentials

log = logging.getLogger("geofix.server")

READY_POLL_S = 0.1
"""Pause between readiness checks until the service is ready for the first time."""
HEALTH_POLL_S = 2.0
"""Pause between readiness checks afterwards."""
LAST_TASKS_S = 1.0
"""How long a process that ends waits at most for the tasks of calls that it has cut off."""


def server_options(settings: ServiceSettings) -> list[tuple[str, int]]:
    """Options of every gRPC server: limits both ways, the age of connections, and the pings that geofix's channels send."""
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # else a second process on the port takes half of the calls, silently
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if settings.max_connection_age_s:
        options += [
            # gRPC adds a jitter of ±10 % of its own, so that connections made together do not end together.
            ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
            # No call in flight is cut off: none lasts longer than this.
            ("grpc.max_connection_age_grace_ms", round((settings.max_deadline_s + 1) * 1000)),
        ]
    return options


class Service(ABC):
    """One gRPC service as the bootstrap sees it."""

    full_name: ClassVar[str]
    """Name in the protos, such as `geofix.v1.ClassifierService`; also the name that health answers to."""
    role: ClassVar[str]
    """Its part in the platform, such as `classifier`: what logs, metrics and traces call it."""
    needed_role: ClassVar[str] = ""
    """The role that its callers need where tokens are asked for; empty: it asks for none, and stands behind the gateway."""

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""

    @abstractmethod
    async def start(self) -> None:
        """Load what the service needs; called once, after the port is open.

        Raises:
            GeofixError: the service can never become ready; it stays alive and says why.
        """

    @abstractmethod
    async def check(self) -> None:
        """Whether it can answer now; called again and again.

        Raises:
            GeofixError: it cannot, and why.
        """

    def beside(self) -> Sequence[tuple[ServiceSettings, Service]]:
        """Services of the same process on listeners of their own, with their settings."""
        return ()

    def versions(self) -> tuple[str, str]:
        """The model version and the gallery version that answer now; empty for what it does not have."""
        return "", ""

    async def close(self) -> None:
        """Release what `start` took."""


def starting(service: Service) -> Unavailable:
    """What a service answers before it is ready."""
    return Unavailable(
        f"{service.full_name} is starting: try again in some seconds", metadata={"service": service.full_name}
    )


class Server:
    """A running service. `port` is the one it listens on (of use where the settings ask for port 0)."""

    def __init__(self, settings: ServiceSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._health = health.aio.HealthServicer()
        self._was_ready = False
        self._pending: GeofixError = starting(service)
        self._readiness: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self._health_server: grpc.aio.Server | None = None
        self.port = self.health_port = 0

    async def start(self) -> None:
        """Open the port and begin to load.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        guard = CallInterceptor(
            lambda: None if self._was_ready else self._pending,
            self._settings.default_deadline_s,
            self._settings.max_deadline_s,
            Access(self._settings, self._service.needed_role)
            if isinstance(self._settings, AccessSettings) and self._service.needed_role
            else None,
        )
        self._server = grpc.aio.server(
            interceptors=[guard],
            options=server_options(self._settings),
        )
        self._service.register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (self._service.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        credentials = server_credentials(self._settings.tls)
        self.port = _open_port(self._server, self._settings.listen, credentials, "GEOFIX_LISTEN")
        await self._health.set(self._service.full_name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        if self._settings.health_listen:
            await self._serve_health(self._settings.health_listen)
        self._readiness = asyncio.create_task(self._watch_readiness())

    async def _serve_health(self, address: str) -> None:
        self._health_server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._health_server)
        self.health_port = _open_port(self._health_server, address, None, "GEOFIX_HEALTH_LISTEN")
        await self._health_server.start()

    async def leave(self, at_once: asyncio.Event) -> None:
        """Say NOT_SERVING and go on answering for the drain delay (or until `at_once`), so that clients move away."""
        await self._end_readiness()
        await self._health.set(self._service.full_name, health_pb2.HealthCheckResponse.NOT_SERVING)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(at_once.wait(), self._settings.drain_delay_s)

    async def stop(self) -> None:
        """Take no new calls, let those in flight finish within the drain time, release everything."""
        await self._health.enter_graceful_shutdown()
        await self._end_readiness()
        if self._server is not None:
            await self._server.stop(self._settings.drain_s)
        if self._health_server is not None:
            await self._health_server.stop(None)
        await self._service.close()

    async def _end_readiness(self) -> None:
        if self._readiness is not None:
            self._readiness.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._readiness

    async def _watch_readiness(self) -> None:
        try:
            await self._service.start()
        except GeofixError as error:
            self._pending = error
            log.error("%s will not become ready: %s", self._service.full_name, error.message)
            return
        except Exception:
            log.exception("%s could not start", self._service.full_name)
            return
        ready: bool | None = None
        versions = ("", "")
        while True:
            try:
                await self._service.check()
                now = True
            except GeofixError as error:
                now, reason = False, error.message
                self._pending = error
            except Exception as error:  # a defect in a check must not end the checking
                log.exception("readiness check failed")
                now, reason = False, type(error).__name__
            if now is not ready:
                ready = now
                self._was_ready = self._was_ready or now
                READY.set(now)
                log.info("%s is %s", self._service.full_name, "ready" if now else f"not ready: {reason}")
                state = health_pb2.HealthCheckResponse
                await self._health.set(self._service.full_name, state.SERVING if now else state.NOT_SERVING)
            if now and (serving := self._service.versions()) != versions:
                versions = serving
                VERSIONS.replace(*versions)
            await asyncio.sleep(HEALTH_POLL_S if self._was_ready else READY_POLL_S)


def main(settings_class: type[ServiceSettings], build: Callable[[Any], Service]) -> None:
    """Entry point of a service's process: read the settings, serve until SIGTERM or SIGINT, exit.

    Exit codes: 0 after a signal, 2 where a setting is missing or wrong, 1 where the bundle cannot be used.
    """
    try:
        settings = settings_class.from_environment()
        service = build(settings)
        with telemetry(service.role, settings):
            asyncio.run(_serve(settings, service))
    except ConfigurationError as error:
        sys.exit(_fail(error.message, 2))
    except GeofixError as error:
        sys.exit(_fail(error.message, 1))


async def _serve(settings: ServiceSettings, service: Service) -> None:
    stop, at_once = asyncio.Event(), asyncio.Event()

    def on_signal(number: int) -> None:
        # Someone at the keyboard, or who asks twice, does not want to wait for clients to move away.
        if number == signal.SIGINT or stop.is_set():
            at_once.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    TASKS.follow(lambda: len(asyncio.all_tasks(loop)))
    servers = []
    for each_settings, each in ((settings, service), *service.beside()):
        servers.append(Server(each_settings, each))
        await servers[-1].start()
        log.info("%s listens on %s", each.full_name, each_settings.listen)
    await stop.wait()
    log.info("%s drains", service.full_name)
    await asyncio.gather(*(server.leave(at_once) for server in servers))
    for server in reversed(servers):  # the first owns what the others use
        await server.stop()
    # Calls that were cut off hear of it from gRPC's core a moment later; a loop that ends before that reports them as failures.
    if last := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(last, timeout=LAST_TASKS_S)


def _open_port(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None, setting: str) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{setting}: cannot listen on {address}; is another process using the port?"
        ) from error


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
