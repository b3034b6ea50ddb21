"""Tokens on a real socket: who is let in, who is not and why, revocation, a provider's tokens, and what the audit log holds."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from geofix import watched
from geofix.access import AccessSettings
from geofix.access.static import line, new_token
from geofix.errors import ConfigurationError, Reason
from geofix.server import Server
from geofix.settings import ServiceSettings
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from geofix.wire import error_from_rpc
from running import LISTEN
from small_service import SmallService

ISSUER, AUDIENCE = "https://id.example.org", "geofix"


class Settings(ServiceSettings, AccessSettings):
    """Those of a service that asks for tokens."""


class Guarded(SmallService):
    """Its callers need the role `locate`."""

    needed_role = "locate"


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Tokens by name, as the file of the service knows them."""
    made = {name: new_token() for name in ("museum", "curator")}
    roles = {"museum": frozenset({"locate"}), "curator": frozenset({"admin"})}
    lines = ["# who may call", *(line(name, token, roles[name]) for name, token in made.items())]
    (tmp_path / "tokens").write_text("\n".join(lines))
    return made


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def server(tmp_path: Path, tokens: dict[str, str], key: ec.EllipticCurvePrivateKey) -> AsyncIterator[Server]:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    (tmp_path / "jwks").write_text(json.dumps({"keys": [public | {"kid": "one", "alg": "ES256", "use": "sig"}]}))
    settings = Settings(
        listen=LISTEN,
        bundle=Path(),
        tokens_file=tmp_path / "tokens",
        jwks_file=tmp_path / "jwks",
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        jwt_leeway_s=5,
        audit=True,
    )
    running = Server(settings, Guarded())
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def ask(server: Server, *metadata: tuple[str, str], method: str = "GetModelInfo") -> str:
    """`ok`, or the reason of the refusal."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = rpc.EmbedderServiceStub(channel)
        request = pb.EmbedderServiceGetModelInfoRequest() if method == "GetModelInfo" else pb.EmbedRequest()
        while True:
            try:
                await getattr(stub, method)(request, metadata=metadata, timeout=5, wait_for_ready=True)
            except grpc.RpcError as error:
                known = error_from_rpc(error, "the service")
                if "is starting" in known.message:
                    await asyncio.sleep(0.05)
                    continue
                return str(known.reason)
            return "ok"


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def signed(key: ec.EllipticCurvePrivateKey, kid: str = "one", **claims: Any) -> str:
    """A provider's token for an hour, with other claims where they are given; None takes one away."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann@example.org", "exp": now + 3600, "scope": "locate"} | claims
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, key, "ES256", {"kid": kid})


async def test_who_has_the_token_and_the_role_is_let_in(server: Server, tokens: dict[str, str]) -> None:
    assert await ask(server, bearer(tokens["museum"])) == "ok"
    assert await ask(server) == Reason.TOKEN_MISSING
    assert await ask(server, ("authorization", "Basic YTpi")) == Reason.TOKEN_MISSING
    assert await ask(server, bearer(new_token())) == Reason.TOKEN_INVALID
    assert await ask(server, bearer(tokens["curator"])) == Reason.ROLE_MISSING


async def test_a_revoked_token_is_refused_and_a_broken_file_changes_nothing(
    server: Server, tokens: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    whole = file.read_text()
    file.write_text(whole + "\nnonsense")
    assert await ask(server, bearer(tokens["museum"])) == "ok"
    file.write_text("\n".join(text for text in whole.splitlines() if "museum" not in text))
    assert await ask(server, bearer(tokens["museum"])) == Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({}, "ok"),
        ({"scope": None, "roles": ["locate", "of-somebody-else"]}, "ok"),
        ({"scope": "openid profile"}, Reason.ROLE_MISSING),
        ({"exp": 2}, Reason.TOKEN_INVALID),
        ({"exp": None}, Reason.TOKEN_INVALID),
        ({"nbf": 2**33}, Reason.TOKEN_INVALID),
        ({"aud": "another"}, Reason.TOKEN_INVALID),
        ({"iss": "https://evil.example.org"}, Reason.TOKEN_INVALID),
        ({"sub": "ann\nmuseum called Locate: OK"}, Reason.TOKEN_INVALID),
    ],
    ids=str,
)
async def test_a_provider_s_token(
    server: Server, key: ec.EllipticCurvePrivateKey, claims: dict[str, Any], found: str
) -> None:
    assert await ask(server, bearer(signed(key, **claims))) == found


async def test_clocks_may_differ_by_the_leeway(server: Server, key: ec.EllipticCurvePrivateKey) -> None:
    now = int(time.time())
    assert await ask(server, bearer(signed(key, exp=now - 1, nbf=now + 2))) == "ok"
    assert await ask(server, bearer(signed(key, exp=now - 60))) == Reason.TOKEN_INVALID


async def test_forged_tokens_are_refused(server: Server, key: ec.EllipticCurvePrivateKey) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 2**33, "scope": "locate"}
    forged = [
        jwt.encode(claims, "", "none", {"kid": "one"}),
        jwt.encode(
            claims, b"a secret of 32 bytes, or some more", "HS256", {"kid": "one"}
        ),  # no signature with a public key
        signed(ec.generate_private_key(ec.SECP256R1())),
        signed(key, kid="two"),
        "a.b.c",
    ]
    assert [await ask(server, bearer(token)) for token in forged] == [Reason.TOKEN_INVALID] * len(forged)


async def test_the_audit_log_says_who_and_how_it_ended_and_no_token(
    server: Server, tokens: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "geofix.audit"]

    with caplog.at_level(logging.INFO, "geofix.audit"):
        await ask(server, bearer(tokens["museum"]))
        await ask(server, bearer(tokens["museum"]), method="Embed")
        await ask(server, bearer("wrong"))
        until = time.monotonic() + 10
        while time.monotonic() < until and not any("UNAUTHENTICATED" in line for line in lines()):
            await asyncio.sleep(0.02)  # a call's line is written after its answer was sent
    said = lines()
    words = [text.rpartition(" after")[0] for text in said]
    assert [text for text in words if "UNAVAILABLE" not in text] == [  # a call while it still starts
        "museum called GetModelInfo: OK",
        "museum called Embed: INTERNAL",
        "- called GetModelInfo: UNAUTHENTICATED",
    ]
    assert not any(secret in text for text in said for secret in tokens.values())


@pytest.mark.parametrize(
    "content", ["museum", "museum:12", f"mu seum:{'0' * 64}", f"m:{'0' * 64}:king", f"a:{'0' * 64}\nb:{'0' * 64}"]
)
async def test_a_wrong_file_ends_the_start_with_its_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokens").write_text(content)
    settings = Settings(listen=LISTEN, bundle=Path(), tokens_file=tmp_path / "tokens")
    with pytest.raises(ConfigurationError, match=r"GEOFIX_TOKENS_FILE: line \d"):
        await Server(settings, Guarded()).start()


async def test_keys_need_an_issuer_and_an_audience(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text('{"keys": []}')
    settings = Settings(listen=LISTEN, bundle=Path(), jwks_file=tmp_path / "jwks")
    with pytest.raises(ConfigurationError, match="GEOFIX_JWT_ISSUER"):
        await Server(settings, Guarded()).start()
    whole = settings.model_copy(update={"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE})
    with pytest.raises(ConfigurationError, match="GEOFIX_JWKS_FILE"):
        await Server(whole, Guarded()).start()
