"""Areas about which the operator gives no answer: of the estimate, of the evidence, and of answers that are cached already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from backends import Backend, request_of
from bundle_factory import image_of
from geofix.area import Box, Circle, s2_places
from geofix.countries import Country
from geofix.errors import ConfigurationError, PermissionDenied, Reason
from geofix.geo import latlon_to_xyz
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from geofix_gateway.denied_areas import read_areas
from geofix_gateway.service import GatewayService
from running import refusal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("empty_cache")]

MUNICH = image_of(48.1, 11.6)
EVERYTHING: dict[str, Any] = {"max_neighbors": 1000, "max_cells": 64, "max_alternatives": 100, "max_density_cells": 256}


def ask(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryCall[pb.LocateRequest, pb.LocateResponse]:
    return rpc.GeolocationServiceStub(channel).Locate(request_of(MUNICH, **EVERYTHING), timeout=30)


def write(path: Path, text: str) -> None:
    """As a rotation does: another file under the name."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


async def test_nothing_inside_is_shown_and_cached_answers_are_screened(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.watched.LOOK_EVERY_S", 0.0)
    path = tmp_path / "denied"
    write(path, "# nothing yet\n")
    async with backend.gateway(denied_areas_file=path) as channel:
        free = await ask(channel)
        assert not free.cached

        # A circle around the farthest neighbour: the estimate is outside, a part of the evidence inside.
        here = latlon_to_xyz(free.location.latitude, free.location.longitude)
        places = [each.neighbor.location for each in free.neighbors]
        far = min(places, key=lambda p: float(latlon_to_xyz(p.latitude, p.longitude) @ here))
        circle = Circle(far.latitude, far.longitude, 400_000)
        assert not circle.contains(free.location.latitude, free.location.longitude)
        write(path, f"{far.latitude},{far.longitude},400\n")
        partly = await ask(channel)
        assert partly.cached
        assert partly.location == free.location
        kept = [each for each in free.neighbors if not inside(circle, each.neighbor.location)]
        assert 0 < len(kept) < len(free.neighbors)
        assert [each.neighbor for each in partly.neighbors] == [each.neighbor for each in kept]
        assert list(partly.cells) == [each for each in free.cells if not inside(circle, each.mean)]
        shown = [each for each in free.alternatives if not inside(circle, each.location)]
        assert list(partly.alternatives) == shown
        for before, after in zip(kept, partly.neighbors, strict=True):
            if after.alternative >= 0:
                assert free.alternatives[before.alternative] == partly.alternatives[after.alternative]
        assert 0 < len(partly.density) <= len(free.density)
        centre, reach_km = s2_places([each.s2_token for each in partly.density])
        assert (circle.distance_km(centre) > reach_km).all()
        assert sum(each.probability for each in partly.density) == pytest.approx(1)

        write(path, "40,5,55,20 # the estimate itself\n")
        error = await refusal(ask(channel))
        assert (type(error), error.reason, error.metadata) == (PermissionDenied, Reason.AREA_DENIED, {})
        assert not any(character.isdigit() for character in error.message)
        stub = rpc.GeolocationServiceStub(channel)
        batch = await stub.BatchLocate(pb.BatchLocateRequest(sources=[ImageSource(image=MUNICH)]), timeout=30)
        assert batch.results[0].WhichOneof("result") == "error"
        fresh = await refusal(stub.Locate(request_of(MUNICH, bypass_cache=True), timeout=30))
        assert fresh.reason is Reason.AREA_DENIED

        write(path, "no area at all\n")  # what was read before is kept
        assert (await refusal(ask(channel))).reason is Reason.AREA_DENIED
        write(path, "")
        assert (await ask(channel)).cached


def inside(circle: Circle, place: Any) -> bool:
    return bool(circle.contains(place.latitude, place.longitude))


async def test_the_file_s_lines(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "areas"
    path.write_text("# comment\n\n48.1, 11.6, 25\n47,10.5,48.5,13 # box\nDE\n")
    assert read_areas(path) == (Circle(48.1, 11.6, 25_000), Box(47, 10.5, 48.5, 13), Country("DE"))
    for wrong in ("XX", "1,2", "91,0,5", "1,2,x", "48.1,11.6,0", "nan,0,5"):
        path.write_text(f"DE\n{wrong}\n")
        with pytest.raises(ConfigurationError, match="line 2"):
            read_areas(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        GatewayService(backend.settings(denied_areas_file=tmp_path / "absent"))
