"""Two gateways before two classifiers, restarted one after the other under load, as a rollout does it: no request fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from backends import HOST, request_of, running_backend
from bundle_factory import image_of
from geofix.channel import open_channel
from geofix.geo import haversine_km
from geofix.platform.ports import free_ports
from geofix.server import Server
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings
from geofix_gateway.service import GatewayService
from running import state_of, until_state

CLIENTS = 6
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def started(make: Callable[[], Server], address: str, name: str) -> Server:
    """A server that is ready."""
    server = make()
    await server.start()
    async with open_channel(address) as channel:
        await until_state(channel, name, SERVING)
    return server


async def replaced(server: Server, make: Callable[[], Server], address: str, name: str) -> Server:
    """Another in its place, after it has left as on SIGTERM: not ready, still answering, then closed."""
    async with open_channel(address) as channel:
        leaving = asyncio.create_task(server.leave(asyncio.Event()))
        await until_state(channel, name, NOT_SERVING)
        assert await state_of(channel, "") == SERVING
        assert not leaving.done()
        await leaving
    await server.stop()
    return await started(make, address, name)


async def test_a_rolling_restart_costs_no_request(tmp_path: Path) -> None:
    addresses = [f"{HOST}:{port}" for port in free_ports(4)]
    gateways, classifiers = addresses[:2], addresses[2:]
    async with running_backend(tmp_path) as backend:

        def classifier(address: str) -> Callable[[], Server]:
            settings = ClassifierSettings(listen=address, bundle=backend.bundle.directory, drain_delay_s=0.3)
            return lambda: Server(settings, ClassifierService(settings))

        def gateway(address: str) -> Callable[[], Server]:
            behind = f"ipv4:{','.join(classifiers)}"
            settings = backend.settings(listen=address, classifier_addr=behind, drain_delay_s=0.3)
            return lambda: Server(settings, GatewayService(settings))

        makers = {address: (classifier(address), ClassifierService.full_name) for address in classifiers}
        makers |= {address: (gateway(address), GatewayService.full_name) for address in gateways}
        servers = {address: await started(make, address, name) for address, (make, name) in makers.items()}
        answers, failures = 0, list[grpc.RpcError]()
        over = False

        async def client(channel: grpc.aio.Channel, number: int) -> None:
            nonlocal answers
            lat, lon = 15.0 * number - 40, 30.0 * number - 90
            request = request_of(image_of(lat, lon), bypass_cache=True)
            while not over:
                try:
                    found = (await rpc.GeolocationServiceStub(channel).Locate(request, timeout=20)).location
                except grpc.RpcError as error:
                    failures.append(error)
                    continue
                assert float(haversine_km(found.latitude, found.longitude, lat, lon)) < 900
                answers += 1
                await asyncio.sleep(0.01)

        try:
            async with open_channel(f"ipv4:{','.join(gateways)}") as channel:
                load = asyncio.gather(*(client(channel, number) for number in range(CLIENTS)))
                begun = time.monotonic()
                for address, (make, name) in makers.items():
                    before = answers
                    servers[address] = await replaced(servers[address], make, address, name)
                    assert answers > before
                over = True
                await load
        finally:
            for server in servers.values():
                await server.stop()
        assert not failures, f"{len(failures)} of {answers} in {time.monotonic() - begun:.1f} s: {failures[0]}"
