"""Starts services in this process, each on a real socket of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from geofix.channel import open_channel
from geofix.errors import GeofixError
from geofix.server import Server, Service
from geofix.settings import ServiceSettings
from geofix.wire import error_from_rpc

LISTEN = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def running(
    service: Service, settings: ServiceSettings, *, ready: bool = True
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve `service`, wait until it is ready (or, with `ready` False, do not), and hand out a channel to it."""
    server = Server(settings, service)
    await server.start()
    channel = open_channel(f"127.0.0.1:{server.port}")
    try:
        if ready:
            await until_state(channel, service.full_name, health_pb2.HealthCheckResponse.SERVING)
        yield channel
    finally:
        await channel.close()
        await server.stop()


async def state_of(channel: grpc.aio.Channel, full_name: str) -> int:
    """What health says of a service."""
    # Channels of one process share their connections, so another's pause after a failure may hold up this one's first call.
    response = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=full_name), timeout=5, wait_for_ready=True
    )
    return int(response.status)


async def until_state(channel: grpc.aio.Channel, full_name: str, wanted: int, seconds: float = 30) -> None:
    """Wait until health says `wanted` of a service."""
    end = time.monotonic() + seconds
    while await state_of(channel, full_name) != wanted:
        assert time.monotonic() < end, f"{full_name} did not reach state {wanted} in {seconds} s"
        await asyncio.sleep(0.05)


async def refusal(call: grpc.aio.UnaryUnaryCall) -> GeofixError:  # type: ignore[type-arg]
    """The error that a call is answered with."""
    try:
        response = await call
    except grpc.RpcError as error:
        return error_from_rpc(error, "the service")
    raise AssertionError(f"answered instead of refused: {response}")
