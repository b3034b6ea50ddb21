"""The platform of the chaos test: what can be hurt, and how."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

import started
from geofix.channel import open_channel
from geofix.platform import Platform
from geofix.platform.ports import free_ports
from proxy import Proxy

SERVICES = ("gateway", "classifier", "embedder", "retrieval", "valkey")
BEHIND = ("classifier", "embedder", "retrieval", "valkey", "milvus")
"""What the second gateway, or retrieval, reaches through a proxy."""
HOLD_S = 5.0
"""How long a process is stopped, or a connection silent or slow."""
SLOW_S = 0.1
"""What slow connections add each way."""

_MILVUS = """
import signal, sys
from milvus_lite.adapter.grpc.server import start_server_in_thread
server, _, _ = start_server_in_thread(sys.argv[1], "127.0.0.1", int(sys.argv[2]))
signal.pause()
"""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong: `begin` does it, `end` (after `HOLD_S`) undoes it where it does not end by itself."""

    name: str
    target: str
    begin: Callable[[], None]
    end: Callable[[], None] | None = None


class MilvusProcess:
    """Milvus Lite's server as a process of its own, on one port whenever it is started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; a client that comes too early tries again."""
        command = [sys.executable, "-c", _MILVUS, str(self._directory), str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None)

    def kill(self) -> None:
        """Kill -9."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)


def processes(platform: Platform) -> list[Fault]:
    """Kill -9 and SIGSTOP of each process of a platform, which starts again what dies."""
    found = []
    for name in SERVICES:
        found.append(Fault("kill -9", name, _sender(platform, name, signal.SIGKILL)))
        found.append(
            Fault(
                "SIGSTOP",
                name,
                _sender(platform, name, signal.SIGSTOP),
                _sender(platform, name, signal.SIGCONT),
            )
        )
    return found


def connections(proxies: Mapping[str, Proxy]) -> list[Fault]:
    """Slow, silent and reset connections to each service behind a proxy."""
    found = []
    for name, proxy in proxies.items():
        found += [
            Fault("slow", name, _slower(proxy, SLOW_S), _slower(proxy, 0.0)),
            Fault("silent", name, proxy.hold, proxy.release),
            Fault("reset", name, _resetter(proxy)),
        ]
    return found


def database(milvus: MilvusProcess) -> list[Fault]:
    """Kill -9 of the Milvus server, which is started again at once as an orchestrator would, and SIGSTOP."""

    def kill() -> None:
        milvus.kill()
        milvus.start()

    def stop() -> None:
        milvus.signal(signal.SIGSTOP)

    def go_on() -> None:
        milvus.signal(signal.SIGCONT)

    return [Fault("kill -9", "milvus", kill), Fault("SIGSTOP", "milvus", stop, go_on)]


@contextlib.asynccontextmanager
async def gateway_through_proxies(platform: Platform, bundle: Path) -> AsyncIterator[tuple[str, dict[str, Proxy]]]:
    """A second gateway of a platform, which reaches everything through proxies: its address, and they."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = {}
        for name, address in platform.addresses.items():
            if name in BEHIND:
                proxies[name] = await stack.enter_async_context(Proxy(address))
        address = f"127.0.0.1:{free_ports(1)[0]}"
        environment = os.environ | {
            "GEOFIX_LISTEN": address,
            "GEOFIX_BUNDLE": str(bundle),
            "GEOFIX_REDIS_URL": f"redis://{proxies['valkey'].address}/0",
            "GEOFIX_LOG_LEVEL": "ERROR",
            **{
                f"GEOFIX_{name.upper()}_ADDR": proxies[name].address for name in ("classifier", "embedder", "retrieval")
            },
        }
        process = subprocess.Popen([sys.executable, "-P", "-m", "geofix_gateway"], env=environment)
        try:
            await _until_ready(address)
            yield address, proxies
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


@contextlib.asynccontextmanager
async def platform_on_a_server(bundle: Path, directory: Path) -> AsyncIterator[tuple[Platform, MilvusProcess, Proxy]]:
    """A platform whose Milvus is a server, reached through a proxy."""
    milvus = MilvusProcess(directory / "milvus-server.db")
    milvus.start()
    try:
        async with Proxy(f"127.0.0.1:{milvus.port}") as proxy:
            settings = {"GEOFIX_MILVUS_URI": f"http://{proxy.address}"}
            with started.environment(settings):
                platform = Platform(bundle, directory / "on-a-server")
                try:
                    await asyncio.to_thread(platform.start)
                    yield platform, milvus, proxy
                finally:
                    await asyncio.to_thread(platform.stop)
    finally:
        milvus.kill()


async def _until_ready(address: str, seconds: float = 60) -> None:
    async with open_channel(address) as channel, asyncio.timeout(seconds):
        request = health_pb2.HealthCheckRequest(service="geofix.v1.GeolocationService")
        while True:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.1)


def _sender(platform: Platform, name: str, number: signal.Signals) -> Callable[[], None]:
    def send() -> None:
        os.kill(platform.pids[name], number)

    return send


def _slower(proxy: Proxy, seconds: float) -> Callable[[], None]:
    def slow() -> None:
        proxy.delay_s = seconds

    return slow


def _resetter(proxy: Proxy) -> Callable[[], None]:
    def reset() -> None:
        proxy.reset()

    return reset
