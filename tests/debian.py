"""Programs of Debian that tests use: the machine's, or installed by apt where this user may."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def program(*names: str, package: str) -> str:
    """Path of the first of `names` that there is; without one the test is skipped with the reason."""
    if (found := _first(names)) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "--quiet", *words], env=environment, capture_output=True, timeout=280, check=False
            )
        found = _first(names)
    if found is None:
        pytest.skip(f"there is no {names[0]} here, and this user cannot install one: apt-get install {package}")
    return found


def _first(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)
