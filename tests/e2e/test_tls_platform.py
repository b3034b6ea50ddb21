"""The whole platform by mutual TLS, with the certificates of the trial tool: page, gateway and the services behind it."""

from __future__ import annotations

import json
import urllib.request

import grpc
import pytest

from bundle_factory import image_of
from geofix.geo import haversine_km
from platforms import locate
from secure_platform import SecurePlatform

pytestmark = pytest.mark.e2e


def test_every_hop_is_by_tls_and_who_has_no_certificate_is_not_let_in(secure_platform: SecurePlatform) -> None:
    image = image_of(48.0, 11.0)
    platform = secure_platform.platform
    with secure_platform.client() as client:
        answer = client.locate(image)
    assert haversine_km(48.0, 11.0, answer.lat, answer.lon) < 2000
    request = urllib.request.Request(f"{platform.page}/v1/locate", image, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=20) as response:
        assert json.load(response)["model_version"] == answer.model_version
    for address in platform.addresses.values():
        if address not in (platform.addresses["valkey"], platform.page.removeprefix("http://")):
            with pytest.raises(grpc.RpcError):
                locate(address, image, seconds=1)
