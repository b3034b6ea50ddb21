"""Who is answered by the gateway: quotas by caller and the operator's switch, for cached answers too; with a real Valkey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from backends import Backend, request_of
from bundle_factory import image_of
from geofix.access.static import line, new_token
from geofix.errors import GeofixError, Overloaded, PermissionDenied, Reason, Unavailable
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from running import refusal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH = image_of(48.1, 11.6)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    made = {name: new_token() for name in ("museum", "archive")}
    lines = [line(name, token, frozenset({"locate"})) for name, token in made.items()]
    (tmp_path / "tokens").write_text("\n".join(lines))
    return made


def ask(channel: grpc.aio.Channel, token: str = "") -> grpc.aio.UnaryUnaryCall[pb.LocateRequest, pb.LocateResponse]:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return rpc.GeolocationServiceStub(channel).Locate(request_of(MUNICH), timeout=30, metadata=metadata)


def ask_batch(
    channel: grpc.aio.Channel, images: int
) -> grpc.aio.UnaryUnaryCall[pb.BatchLocateRequest, pb.BatchLocateResponse]:
    request = pb.BatchLocateRequest(sources=[ImageSource(image=MUNICH)] * images)
    return rpc.GeolocationServiceStub(channel).BatchLocate(request, timeout=30)


async def test_each_caller_has_a_quota_and_cached_answers_count(
    backend: Backend, tokens: dict[str, str], tmp_path: Path
) -> None:
    more: dict[str, Any] = {"tokens_file": tmp_path / "tokens", "quota_per_minute": 3}
    async with backend.gateway(**more) as channel, backend.gateway(**more) as other:
        assert not (await ask(channel, tokens["museum"])).cached
        assert (await ask(channel, tokens["museum"])).cached
        assert (await ask(other, tokens["museum"])).cached
        error = await refusal(ask(channel, tokens["museum"]))
        assert (type(error), error.reason, error.metadata["limit"]) == (Overloaded, Reason.QUOTA_EXCEEDED, "3")
        assert isinstance(error, Overloaded)
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 20  # an even flow: one image every 20 s
        assert (await ask(channel, tokens["archive"])).cached, "another caller has its own"


async def test_a_batch_is_charged_whole_and_one_that_never_fits_says_so(backend: Backend) -> None:
    async with backend.gateway(quota_per_minute=4) as channel:
        await ask_batch(channel, 3)
        too_many = await refusal(ask_batch(channel, 2))
        assert too_many.reason == Reason.QUOTA_EXCEEDED
        await ask(channel)  # what was refused was not charged
        never = await refusal(ask_batch(channel, 5))
        assert isinstance(never, Overloaded)
        assert never.retry_after_s is None


@pytest.mark.parametrize("fail_open", [True, False])
async def test_without_redis_the_stated_choice_holds(backend: Backend, fail_open: bool) -> None:
    more: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1/0", "quota_per_minute": 1, "quota_fail_open": fail_open}
    async with backend.gateway(**more) as channel:
        for _ in range(5):  # before and after Redis is left alone
            if fail_open:
                await ask(channel)
            else:
                error: GeofixError = await refusal(ask(channel))
                assert isinstance(error, Unavailable)
                assert "quotas cannot be checked" in error.message


async def test_the_switch_holds_for_cached_answers_too(backend: Backend, tmp_path: Path) -> None:
    off = tmp_path / "off"
    async with backend.gateway(off_file=off) as channel:
        await ask(channel)
        off.touch()
        for call in (ask(channel), ask_batch(channel, 1)):
            error = await refusal(call)
            assert (type(error), error.reason) == (PermissionDenied, Reason.SWITCHED_OFF)
        off.unlink()
        assert (await ask(channel)).cached
