"""The machine: Python, clock, cores, memory, disk, ports."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import geofix
from geofix.cli.checks.finding import Finding, Place, good, note, wrong
from geofix.cpus import available_cpus

GIB = 1024**3
NEEDED_MEMORY = 2 * GIB
"""For the whole platform with the demo bundle, with room for one batch of large photos."""
NEEDED_DISK = GIB
"""For a gallery of some hundred thousand images, its log and the services' logs."""


def machine(place: Place) -> Iterator[Finding]:
    """All of them."""
    yield good("geofix", f"{geofix.__version__}, Python {platform.python_version()} at {sys.executable}")
    yield clock(time.time(), [path for path in (Path(geofix.__file__), place.bundle / "bundle.json") if path.is_file()])
    yield cores(available_cpus(), os.cpu_count() or 1)
    yield memory(available_memory())
    yield from data_dir(place.data_dir)


def clock(now: float, files: list[Path]) -> Finding:
    """Whether the clock (seconds since 1970) is later than the files were made."""
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    if now < newest - 24 * 3600:
        said, made = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(t)) for t in (now, newest))
        return wrong("clock", f"it says {said}, and files here were made {made}", "set it: TLS and tokens rely on it")
    return good("clock", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))


def cores(usable: int, present: int) -> Finding:
    """Whether this process may use more than one core."""
    says = f"{usable} of {present} may be used"
    if usable == 1:
        return note("cores", says, "the platform runs on one core, slowly; raise the quota if the machine has more")
    return good("cores", says)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that may still be used: the least of the machine's free memory and of what the control group leaves; None if unknown.

    Args:
        root: where /proc and /sys are looked for.
    """
    found = []
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        texts = _read(root / "sys/fs/cgroup" / limit).strip(), _read(root / "sys/fs/cgroup" / used).strip()
        if all(text.isdigit() for text in texts):
            found.append(max(0, int(texts[0]) - int(texts[1])))
    return min(found, default=None)


def memory(free: int | None) -> Finding:
    """Whether the platform fits."""
    if free is None:
        return note("memory", "how much is free cannot be seen on this machine")
    says = f"{free / GIB:.1f} GiB free"
    if free < NEEDED_MEMORY:
        return note("memory", says, f"geofix up with the demo bundle needs about {NEEDED_MEMORY / GIB:.0f} GiB")
    return good("memory", says)


def data_dir(path: Path) -> Iterator[Finding]:
    """Whether `geofix up` may write its data directory, and has room in it."""
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield wrong("data directory", f"{path} cannot be written", "choose another with --data-dir or $GEOFIX_DATA_DIR")
        return
    yield good("data directory", f"{path} can be written")
    free = shutil.disk_usage(existing).free
    says = f"{free / GIB:.1f} GiB free at {existing}"
    if free < NEEDED_DISK:
        yield wrong("disk", says, f"free {NEEDED_DISK / GIB:.0f} GiB there, or choose another --data-dir")
    else:
        yield good("disk", says)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
