"""Packages of PyPI that tests need and no environment may have: laid once into .cache/, by one process at a time."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache"


def laid_out(package: str, version: str, timeout_s: float, finish: Callable[[Path], None] = lambda _home: None) -> Path:
    """The folder that holds a package as `package`, without what it requires; `finish` makes of it what is needed, once.

    Raises:
        subprocess.SubprocessError: it cannot be had.
    """
    home = CACHE / f"{package}-{version}"
    home.mkdir(parents=True, exist_ok=True)
    done = home / "done"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command = [*pip, "--upgrade", "--target", str(home / "package"), f"{package}=={version}"]
            subprocess.run(command, check=True, timeout=timeout_s)
            finish(home)
            done.touch()
    return home
