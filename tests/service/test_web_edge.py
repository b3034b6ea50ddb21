"""The web service's own rules, whatever stands behind it: whose pages may call it, its token, how long it keeps thumbnails."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from certificates import Authority
from geofix.platform.ports import HOST, free_ports
from geofix.tls import server_credentials
from geofix.v1 import geolocation_service_pb2 as pb_of_gateway
from geofix.v1 import geolocation_service_pb2_grpc as rpc_of_gateway
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix_web.thumbnails import FRESH_S, Thumbnails
from platforms import clean_environment, wait_until

ALLOWED, STRANGER = "https://maps.example.org", "https://evil.example.org"


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web service that lets one other origin in; its gateway is not there."""
    nobody = f"{HOST}:{free_ports(1)[0]}"
    with running_web({"GEOFIX_GATEWAY_ADDR": nobody, "GEOFIX_CORS_ORIGINS": ALLOWED}) as url:
        yield url


@contextlib.contextmanager
def running_web(settings: Mapping[str, str]) -> Iterator[str]:
    """A web service as a process: its URL."""
    address = f"{HOST}:{free_ports(1)[0]}"
    environment = clean_environment() | {"GEOFIX_LISTEN": address} | dict(settings)
    process = subprocess.Popen([sys.executable, "-P", "-m", "geofix_web"], env=environment)
    try:
        wait_until(lambda: answers(address), 60)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=2):
            return True
    except OSError:
        return False


def allowed_origin(url: str, method: str, origin: str, **headers: str) -> str | None:
    """What the answer says of who may read it."""
    request = urllib.request.Request(url, method=method, headers={"Origin": origin} | headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.headers.get("Access-Control-Allow-Origin") or "") or None
    except urllib.error.HTTPError as error:
        return str(error.headers.get("Access-Control-Allow-Origin") or "") or None


def test_pages_of_the_named_origins_may_call_and_no_others(web: str) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for url, method, more in ((f"{web}/healthz", "GET", {}), (f"{web}/v1/locate", "OPTIONS", preflight)):
        assert allowed_origin(url, method, ALLOWED, **more) == ALLOWED
        assert allowed_origin(url, method, STRANGER, **more) is None


class Gateway(rpc_of_gateway.GeolocationServiceServicer):
    """A gateway that notes who calls."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def GetServiceInfo(
        self, request: pb_of_gateway.GetServiceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb_of_gateway.GetServiceInfoResponse:
        self.callers += [str(value) for key, value in context.invocation_metadata() or () if key == "authorization"]
        return pb_of_gateway.GetServiceInfoResponse(model_version="m@1")


async def test_the_token_for_the_gateway_is_read_from_its_file_and_again_when_it_changes(tmp_path: Path) -> None:
    authority, token = Authority(), tmp_path / "token"
    server, gateway = grpc.aio.server(), Gateway()  # type: ignore[abstract]
    rpc_of_gateway.add_GeolocationServiceServicer_to_server(gateway, server)
    credentials = server_credentials(authority.files(tmp_path / "server", require_client=False))
    assert credentials is not None
    port = server.add_secure_port(f"{HOST}:0", credentials)
    await server.start()
    token.write_text("first\n")
    settings = {"GEOFIX_GATEWAY_ADDR": f"{HOST}:{port}", "GEOFIX_GATEWAY_TOKEN_FILE": str(token)}
    authorities = authority.files(tmp_path / "web").ca
    try:
        with running_web(settings | {"GEOFIX_TLS_CA_FILE": str(authorities)}) as web:
            await asyncio.to_thread(until_called_with, gateway, web, "Bearer first")
            token.write_text("second\n")
            await asyncio.to_thread(until_called_with, gateway, web, "Bearer second")
    finally:
        await server.stop(None)


def until_called_with(gateway: Gateway, web: str, authorization: str) -> None:
    def called() -> bool:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{web}/v1/info", timeout=10):
            pass
        return authorization in gateway.callers

    wait_until(called, 30, lambda: gateway.callers)


class Pictures(rpc.RetrievalServiceServicer):
    """A retrieval service that has the pictures of a dictionary."""

    def __init__(self) -> None:
        self.jpegs = {"a": b"first", "b": b"second"}
        self.asked = 0

    async def GetThumbnails(
        self, request: pb.GetThumbnailsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetThumbnailsResponse:
        self.asked += 1
        found = [pb.Thumbnail(id=name, jpeg=self.jpegs[name]) for name in request.ids if name in self.jpegs]
        return pb.GetThumbnailsResponse(thumbnails=found)


async def test_a_deleted_picture_is_gone_within_a_minute() -> None:
    server, pictures, now = grpc.aio.server(), Pictures(), 100.0  # type: ignore[abstract]
    rpc.add_RetrievalServiceServicer_to_server(pictures, server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    kept = Thumbnails(f"{HOST}:{port}", clock=lambda: now)
    try:
        assert await kept.jpeg("mine", "a") == b"first"
        now += FRESH_S - 1
        assert (await kept.jpeg("mine", "a"), pictures.asked) == (b"first", 1)
        assert await kept.jpeg("another", "b") == b"second"
        pictures.jpegs.clear()
        now += 2
        assert await kept.jpeg("mine", "a") is None
        assert await kept.jpeg("another", "b") == b"second"
        now += FRESH_S
        assert await kept.jpeg("another", "b") is None
    finally:
        await kept.close()
        await server.stop(None)
