"""The whole platform by mutual TLS, with the certificates of the trial tool: page, gateway and the services behind it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest

from bundle_factory import image_of
from geofix.bundle import Bundle
from geofix.client import Client, Tls
from geofix.geo import haversine_km
from geofix.platform import Platform
from platforms import locate

pytestmark = pytest.mark.e2e

TOOL = Path(__file__).parents[2] / "tools/make_certificates.py"


def test_every_hop_is_by_tls_and_who_has_no_certificate_is_not_let_in(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tls"
    subprocess.run([sys.executable, str(TOOL), str(folder)], check=True, timeout=60)
    for variable, name in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
        monkeypatch.setenv(f"GEOFIX_TLS_{variable}_FILE", str(folder / "gateway" / name))
    image = image_of(48.0, 11.0)
    with Platform(bundle.directory, tmp_path / "data", web_port=0) as platform:
        own = folder / "client"
        tls = Tls(ca=folder / "ca.crt", certificate=own / "tls.crt", key=own / "tls.key")
        with Client(platform.address, tls=tls) as client:
            answer = client.locate(image)
        assert haversine_km(48.0, 11.0, answer.lat, answer.lon) < 2000
        request = urllib.request.Request(f"{platform.page}/v1/locate", image, {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=20) as response:
            assert json.load(response)["model_version"] == answer.model_version
        for address in platform.addresses.values():
            if address not in (platform.addresses["valkey"], platform.page.removeprefix("http://")):
                with pytest.raises(grpc.RpcError):
                    locate(address, image, seconds=1)
