"""A Chromium for the tests of the page: the machine's, or one that apt installs where this user may."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Path of a Chromium; without one the test is skipped with the reason."""
    if (found := _installed()) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "--quiet", *words], env=environment, capture_output=True, timeout=280, check=False
            )
        found = _installed()
    if found is None:
        pytest.skip("there is no Chromium here, and this user cannot install one: apt-get install chromium")
    return found


def _installed() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)
