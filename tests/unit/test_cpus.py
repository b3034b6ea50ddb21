"""Thread counts follow the pod's quota, not the host's cores."""

from __future__ import annotations

from pathlib import Path

import pytest

from geofix.cpus import available_cpus


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/\n", {}, 8),
        ("0::/kubepods/pod1/main\n", {"kubepods/pod1/cpu.max": "300000 100000\n"}, 3),
        (
            "0::/a/b\n",
            {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "400000 100000\n"},
            2,
        ),
        (
            "5:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        ("5:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("5:cpu:/host/path\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("5:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "what is this\n"}, 8),
    ],
)
def test_the_quota_of_the_group_or_of_a_parent_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], cores: int
) -> None:
    assert available_cpus(machine(tmp_path, cgroup, files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == 8
