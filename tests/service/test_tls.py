"""TLS and mutual TLS of a service on a real socket: who is let in, what is refused at the start, and rotation under load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority, replace
from geofix import probe, watched
from geofix.channel import open_channel
from geofix.errors import ConfigurationError
from geofix.server import Server
from geofix.settings import ServiceSettings
from geofix.tls import TlsFiles, peer_credentials
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from running import LISTEN
from small_service import SmallService


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    return authority.files(tmp_path / "server")


@contextlib.asynccontextmanager
async def serving(files: TlsFiles, **more: Any) -> AsyncIterator[Server]:
    settings = ServiceSettings(
        listen=LISTEN,
        bundle=Path(),
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_ca_file=files.ca,
        tls_require_client_cert=files.require_client,
        **more,
    )
    server = Server(settings, SmallService())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(channel: grpc.aio.Channel, seconds: float = 5) -> int:
    """The answer of a call over a channel, or 0 where the server lets nobody in."""
    stub = rpc.EmbedderServiceStub(channel)
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return (await stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest(), timeout=2)).feature_dim
                except grpc.RpcError as error:
                    if "is starting" in (error.details() or ""):
                        await asyncio.sleep(0.05)
                        continue
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        return 0
                    raise
    except TimeoutError:
        return 0


async def ask_once(server: Server, files: TlsFiles | None) -> int:
    channel = open_channel(f"127.0.0.1:{server.port}", peer=peer_credentials(files) if files else None)
    try:
        return await ask(channel)
    finally:
        await channel.close()


async def test_who_has_a_certificate_of_the_authority_is_let_in(
    authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    peer = authority.files(tmp_path / "peer")
    async with serving(files) as server:
        assert await ask_once(server, peer) == 7
        assert await ask_once(server, TlsFiles(ca=peer.ca)) == 0, "no certificate"
        assert await ask_once(server, None) == 0, "plain text"
        stranger = Authority().files(tmp_path / "stranger")
        assert await ask_once(server, TlsFiles(stranger.cert, stranger.key, peer.ca)) == 0, "of another authority"
        assert await ask_once(server, TlsFiles(peer.cert, peer.key, stranger.ca)) == 0, "trusts another authority"


async def test_clients_may_do_without_one_where_the_setting_says_so(authority: Authority, tmp_path: Path) -> None:
    files = authority.files(tmp_path / "server", require_client=False)
    async with serving(files) as server:
        assert await ask_once(server, TlsFiles(ca=files.ca)) == 7


async def test_a_certificate_that_has_expired_lets_nobody_in(
    authority: Authority, files: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = authority.files(tmp_path / "old", ends_in=timedelta(seconds=-1))
    with pytest.raises(ConfigurationError, match=r"GEOFIX_TLS_CERT_FILE: .*cert.pem expired on 20\d\d-"):
        async with serving(old):
            raise AssertionError("it serves with it")
    # A caller whose certificate expires while it runs: the server is who refuses.
    monkeypatch.setattr("geofix.tls._check_pair", lambda *_: 0.0)
    async with serving(files) as server:
        assert await ask_once(server, old) == 0


@pytest.mark.parametrize("wrong", ["absent", "garbage", "of another certificate", "without the certificate"])
async def test_a_key_that_cannot_be_used_is_named(
    authority: Authority, files: TlsFiles, tmp_path: Path, wrong: str
) -> None:
    assert files.key
    match wrong:
        case "absent":
            files.key.unlink()
        case "garbage":
            broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"  # pragma: allowlist secret
            files.key.write_text(broken)
        case "of another certificate":
            files.key.write_bytes((authority.files(tmp_path / "other").key or files.key).read_bytes())
    cert = None if wrong == "without the certificate" else files.cert
    settings = ServiceSettings(listen=LISTEN, bundle=Path(), tls_cert_file=cert, tls_key_file=files.key)
    with pytest.raises(ConfigurationError, match="GEOFIX_TLS_KEY_FILE") as caught:
        await Server(settings, SmallService()).start()
    assert "c2VjcmV0" not in caught.value.message


async def test_rotation_under_way_loses_no_call(
    authority: Authority, files: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate first, key later, then another authority altogether; with calls and new connections all the time."""
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0.02)
    assert files.key
    peer = authority.files(tmp_path / "peer")
    async with serving(files) as server:
        channel = open_channel(f"127.0.0.1:{server.port}", peer=peer_credentials(peer))
        answers: list[int] = []
        done = asyncio.Event()

        async def calls() -> None:
            while not done.is_set():
                answers.append(await ask(channel))
                answers.append(await ask_once(server, peer))
                await asyncio.sleep(0)

        calling = asyncio.create_task(calls())
        await asyncio.sleep(0.1)
        authority.issue(files, key=False)  # half of a rotation: the old pair is served on
        await asyncio.sleep(0.2)
        assert await ask_once(server, peer) == 7
        replace(files.key, authority.waiting_key)
        await asyncio.sleep(0.2)
        done.set()
        await calling
        assert set(answers) == {7}
        other = Authority()
        old_peer = authority.files(tmp_path / "of the old authority")
        for each in (files, peer):
            other.issue(each)
        async with asyncio.timeout(10):
            while await ask_once(server, old_peer):  # it ends when the server has read its files
                await asyncio.sleep(0.02)
        assert await ask(channel) == 7, "the channel has read its files too"
        await channel.close()


async def test_probes_that_speak_no_tls_have_a_listener_of_health_alone(files: TlsFiles) -> None:
    async with serving(files, health_listen=LISTEN) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                await rpc.EmbedderServiceStub(channel).GetModelInfo(pb.EmbedderServiceGetModelInfoRequest(), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await ask_once(server, files) == 7
        environment = {"SERVICE": "embedder", "GEOFIX_LISTEN": f"127.0.0.1:{server.port}"}
        tls = {"GEOFIX_TLS_CERT_FILE": str(files.cert), "GEOFIX_TLS_KEY_FILE": str(files.key)}
        tls |= {"GEOFIX_TLS_CA_FILE": str(files.ca)}
        plain = {"GEOFIX_HEALTH_LISTEN": f"127.0.0.1:{server.health_port}"}
        assert await asyncio.to_thread(probe.is_ready, environment | tls)
        assert await asyncio.to_thread(probe.is_ready, environment | plain)
        assert not await asyncio.to_thread(probe.is_ready, environment)
