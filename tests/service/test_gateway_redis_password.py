"""Redis' password from a file: wrong, changed, and right again, with a real Valkey."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import redis

from backends import Backend, locate
from bundle_factory import image_of
from geofix.errors import ConfigurationError
from geofix_gateway.service import GatewayService

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH = image_of(48.1, 11.6)


async def test_the_password_of_redis_comes_from_a_file_that_may_change(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.watched.LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("geofix_gateway.cache.PAUSE_S", 0.05)
    path = tmp_path / "password"
    path.write_text("first\n")

    async def until_cached(channel: grpc.aio.Channel, wanted: bool) -> None:
        async with asyncio.timeout(20):
            while (await locate(channel, MUNICH)).cached is not wanted:
                await asyncio.sleep(0.05)

    with redis.Redis.from_url(backend.valkey.url) as operator:  # stays connected: who is in needs no password again
        operator.config_set("requirepass", "first")
        try:
            async with backend.gateway(redis_password_file=path, quota_per_minute=10_000) as channel:
                await until_cached(channel, True)
                operator.config_set("requirepass", "second")
                operator.client_kill_filter(_type="normal", skipme=True)
                await until_cached(channel, False)  # refused, so computed
                path.write_text("second\n")
                await until_cached(channel, True)
        finally:
            operator.config_set("requirepass", "")


async def test_a_password_twice_or_a_file_that_is_not_there_is_said_at_the_start(
    backend: Backend, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"GEOFIX_REDIS_PASSWORD_FILE: .* cannot be read"):
        GatewayService(backend.settings(redis_password_file=tmp_path / "absent"))
    (tmp_path / "password").write_text("one")
    settings = backend.settings(redis_password_file=tmp_path / "password", redis_url="redis://:two@127.0.0.1:1/0")
    with pytest.raises(ConfigurationError, match="keep one of them"):
        GatewayService(settings)
