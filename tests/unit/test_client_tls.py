"""TLS, client certificates and tokens: against real servers with certificates made here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import trustme

from geofix.client import AsyncClient, Client, RetryPolicy, Tls
from geofix.errors import AccessDenied, ConfigurationError, Unavailable
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc

ONCE = RetryPolicy(attempts=1)


@dataclass
class Gateway(rpc.GeolocationServiceServicer):
    """Answers who knows the token; keeps the headers."""

    headers: list[str | bytes] = field(default_factory=list)

    def BatchLocate(self, request: pb.BatchLocateRequest, context: grpc.ServicerContext) -> pb.BatchLocateResponse:
        raise NotImplementedError

    def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServiceInfoResponse:
        raise NotImplementedError

    def Locate(self, request: pb.LocateRequest, context: grpc.ServicerContext) -> pb.LocateResponse:
        self.headers.append(dict(context.invocation_metadata()).get("authorization", ""))
        if self.headers[-1] == "Bearer wrong":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known")
        if self.headers[-1] == "Bearer small":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "it may not locate")
        return pb.LocateResponse(localizable=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def serve(gateway: Gateway, credentials: grpc.ServerCredentials | None) -> tuple[grpc.Server, str]:
    server = grpc.server(ThreadPoolExecutor(2))
    rpc.add_GeolocationServiceServicer_to_server(gateway, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}"


@pytest.fixture(params=[False, True], ids=["tls", "mtls"])
def secure(request: pytest.FixtureRequest, gateway: Gateway, authority: trustme.CA) -> Iterator[tuple[str, bool]]:
    issued = authority.issue_cert("gateway.test", "127.0.0.1")
    pair = (issued.private_key_pem.bytes(), b"".join(part.bytes() for part in issued.cert_chain_pems))
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=request.param)
    server, address = serve(gateway, credentials)
    yield address, request.param
    server.stop(None).wait()


@pytest.fixture
def plain(gateway: Gateway) -> Iterator[str]:
    server, address = serve(gateway, None)
    yield address
    server.stop(None).wait()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Tls:
    """The authority as a file, the client's certificate as bytes."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = authority.issue_cert("client.test")
    return Tls(tmp_path / "ca.pem", b"".join(p.bytes() for p in mine.cert_chain_pems), mine.private_key_pem.bytes())


def test_over_tls_with_a_token(gateway: Gateway, secure: tuple[str, bool], tls: Tls) -> None:
    tokens = iter(["first", "second"])
    with Client(secure[0], tls=tls, token=lambda: next(tokens)) as client:
        assert client.locate(b"image").localizable
        assert client.locate(b"image").localizable
    assert gateway.headers == ["Bearer first", "Bearer second"], "the function is asked before every call"


async def test_over_tls_with_a_token_in_asyncio(gateway: Gateway, secure: tuple[str, bool], tls: Tls) -> None:
    async with AsyncClient(secure[0], tls=tls, token="known") as client:
        assert (await client.locate(b"image")).localizable
    assert gateway.headers == ["Bearer known"]


def test_a_name_other_than_the_address(secure: tuple[str, bool], tls: Tls) -> None:
    named = Tls(tls.ca, tls.certificate, tls.key, server_name="gateway.test")
    with Client(secure[0], tls=named) as client:
        assert client.locate(b"image").localizable
    wrong = Tls(tls.ca, tls.certificate, tls.key, server_name="other.test")
    with Client(secure[0], tls=wrong, retry=ONCE) as client, pytest.raises(Unavailable, match="TLS failed"):
        client.locate(b"image")


def test_another_authority_is_not_trusted(secure: tuple[str, bool]) -> None:
    other = Tls(trustme.CA().cert_pem.bytes())
    with (
        Client(secure[0], tls=other, retry=ONCE) as client,
        pytest.raises(Unavailable, match=r"TLS failed.*check the CA"),
    ):
        client.locate(b"image")


def test_tls_to_a_server_without_it_and_the_other_way_round(plain: str, secure: tuple[str, bool], tls: Tls) -> None:
    with Client(plain, tls=tls, retry=ONCE) as client, pytest.raises(Unavailable, match="TLS failed"):
        client.locate(b"image")
    with Client(secure[0], retry=ONCE) as client, pytest.raises(Unavailable, match=r"TLS|closed the connection"):
        client.locate(b"image")


@pytest.mark.parametrize(("token", "words"), [("wrong", "the token is not known"), ("small", "it may not locate")])
def test_a_refused_caller_is_told_so(plain: str, token: str, words: str) -> None:
    with Client(plain, token=token) as client, pytest.raises(AccessDenied, match=words):
        client.locate(b"image")


def test_a_token_does_not_travel_readable_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="use TLS"):
        Client("gateway.example.org:50051", token="secret")
    Client("gateway.example.org:50051", token="secret", plaintext_token=True).close()
    for local in ("localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "unix:/tmp/socket"):
        Client(local, token="secret").close()


@pytest.mark.parametrize("token", ["", "two\nlines", "größe"])
def test_a_token_that_a_header_cannot_carry(plain: str, token: str) -> None:
    with Client(plain, token=token) as client, pytest.raises(ConfigurationError, match="header cannot carry"):
        client.locate(b"image")


def test_unusable_files(tmp_path: Path) -> None:
    (tmp_path / "der").write_bytes(b"\x30\x82")
    with pytest.raises(ConfigurationError, match=r"CA .*absent cannot be read: No such file"):
        Client(tls=Tls(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match=r"client key .*der is not in PEM form"):
        Client(tls=Tls(certificate=b"-----BEGIN", key=tmp_path / "der"))
    with pytest.raises(ConfigurationError, match="go together"):
        Client(tls=Tls(certificate=b"-----BEGIN"))
