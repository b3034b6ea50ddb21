"""A platform by mutual TLS with the certificates of the trial tool, whose metrics are on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from geofix.bundle import Bundle
from geofix.client import Client, Tls
from geofix.platform import Platform

TOOL = Path(__file__).parents[1] / "tools/make_certificates.py"


@dataclass(frozen=True)
class SecurePlatform:
    """The platform, with its page, and a client's certificate for it."""

    platform: Platform
    tls: Tls

    def client(self) -> Client:
        return Client(self.platform.address, tls=self.tls)


@contextlib.contextmanager
def secure_platform(bundle: Bundle, directory: Path) -> Iterator[SecurePlatform]:
    folder = directory / "tls"
    subprocess.run([sys.executable, str(TOOL), str(folder)], check=True, timeout=60)
    own = folder / "client"
    tls = Tls(ca=folder / "ca.crt", certificate=own / "tls.crt", key=own / "tls.key")
    platform = Platform(bundle.directory, directory / "data", web_port=0)
    with pytest.MonkeyPatch.context() as patch:  # what it starts again later gets the same
        patch.setenv("GEOFIX_METRICS", "on")
        for variable, name in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
            patch.setenv(f"GEOFIX_TLS_{variable}_FILE", str(folder / "gateway" / name))
        platform.__enter__()
    try:
        yield SecurePlatform(platform, tls)
    finally:
        platform.stop()
