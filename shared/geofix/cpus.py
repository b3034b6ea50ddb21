"""How many cores this process may use: thread pools are sized by that, never by what the host has."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """Whole cores, at least 1: the least of the CPU affinity and of the quotas of the process's control group and its parents.

    Cgroup v2 states a quota in `cpu.max`, v1 in `cpu.cfs_quota_us` and `cpu.cfs_period_us` (kernel.org, cgroup-v2 and
    sched-bwc). A quota of 1.5 cores counts as 1: with 2 threads the kernel would stop both for a part of every period.

    Args:
        root: where /proc and /sys are looked for.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    hierarchy = root / "sys/fs/cgroup"
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = hierarchy
        elif "cpu" in controllers.split(","):
            mount = next((m for m in (hierarchy / controllers, hierarchy / "cpu") if m.is_dir()), hierarchy / "cpu")
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        # In a container without a cgroup namespace the path is the host's, and the container's own group lies at the mount.
        groups = [mount / group, *(mount / parent for parent in group.parents), mount]
        found += [quota for folder in dict.fromkeys(groups) if (quota := _quota(folder)) is not None]
    return found


def _quota(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    try:
        limit, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max", or no such files
        return None
    return limit / period if limit > 0 and period > 0 else None  # v1 says -1 for no limit


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
