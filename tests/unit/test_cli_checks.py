"""What `geofix doctor` finds: every check says good of what is, and names the remedy of what is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle_factory import make_bundle
from geofix.bundle import GALLERY
from geofix.cli.checks import Finding, Place, State
from geofix.cli.checks.machine import available_memory, clock, cores, data_dir, memory
from geofix.cli.checks.parts import bundle, packages, providers, runtime, settings
from geofix.cli.checks.served import limits
from geofix.cli.checks.stores import milvus, redis
from geofix.client import ServiceInfo
from geofix.platform.ports import free_ports


def info(**values: int) -> ServiceInfo:
    return ServiceInfo("m", "g", 1, True, values.get("image", 20), 50, 32, values.get("message", 10**6))


@pytest.mark.parametrize(
    ("finding", "state", "words"),
    [
        (lambda: clock(time.time(), [Path(__file__)]), State.GOOD, "UTC"),
        (lambda: clock(0, [Path(__file__)]), State.WRONG, "1970-01-01"),
        (lambda: cores(1, 8), State.NOTE, "1 of 8"),
        (lambda: memory(10 * 2**30), State.GOOD, "10.0 GiB"),
        (lambda: memory(2**29), State.NOTE, "0.5 GiB"),
        (lambda: memory(None), State.NOTE, "cannot be seen"),
        (lambda: packages(["pytest>=1", "numpy"], "x"), State.GOOD, "2 are here"),
        (lambda: packages(["pytest>=1000", "no-such-package"], "x"), State.WRONG, "missing: no-such-package; pytest"),
        (lambda: packages(["no-such-package"], "x"), State.NOTE, "the client alone"),
        (lambda: runtime(["onnxruntime"]), State.GOOD, "onnxruntime"),
        (lambda: runtime(["onnxruntime", "onnxruntime-gpu"]), State.WRONG, "both installed"),
        (lambda: runtime([]), State.NOTE, "no build"),
        (lambda: providers(["CPU"], ["CPU"]), State.GOOD, "CPU"),
        (lambda: providers(["CUDA"], ["CPU"]), State.WRONG, "asks for CUDA; this build has CPU"),
        (lambda: settings({"GEOFIX_SERVER": "a", "OTHER": "b"}), State.GOOD, "1 GEOFIX_"),
        (lambda: settings({"GEOFIX_SERVR": "a"}), State.WRONG, "GEOFIX_SERVER?"),
        (lambda: limits(info()), State.GOOD, "images to 20"),
        (lambda: limits(info(image=10**6)), State.WRONG, "images to 1,000,000"),
    ],
)
def test_a_check(finding: Callable[[], Finding], state: State, words: str) -> None:
    found = finding()
    assert found.state is state
    assert words in found.says
    assert found.remedy or state is not State.WRONG


def test_the_control_group_counts_where_it_leaves_less(tmp_path: Path) -> None:
    for name, text in {
        "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    1000 kB\n",
        "sys/fs/cgroup/memory.max": "500000\n",
        "sys/fs/cgroup/memory.current": "100000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == 400_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert available_memory(tmp_path) == 1_024_000
    assert available_memory(tmp_path / "none") is None


def test_the_data_directory(tmp_path: Path) -> None:
    assert next(data_dir(tmp_path / "not" / "yet")).state is State.GOOD
    (tmp_path / "file").write_text("")
    assert next(data_dir(tmp_path / "file" / "below")).state is State.WRONG
    assert not (tmp_path / "not").exists(), "nothing is changed"


def test_the_bundle(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle")
    place = Place(made.directory, True, tmp_path)
    assert (bundle(place).state, made.version in bundle(place).says) == (State.GOOD, True)
    with (made.directory / GALLERY).open("ab") as file:
        file.write(b"\0")
    assert (bundle(place).state, GALLERY in bundle(place).says) == (State.WRONG, True)
    assert bundle(Place(tmp_path / "none", True, tmp_path)).state is State.WRONG
    assert bundle(Place(tmp_path / "none", False, tmp_path)).state is State.NOTE


def test_stores_that_are_not_there(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    nowhere = Place(tmp_path, False, tmp_path, milvus_uri=f"http://127.0.0.1:{port}")
    for found in (
        *milvus(nowhere),
        *milvus(Place(tmp_path, False, tmp_path, milvus_uri="milvs.example")),
        *redis(f"redis://127.0.0.1:{port}/0"),
        *redis("nonsense"),
        *redis("redis://127.0.0.1/0", tmp_path / "no-password"),
    ):
        assert found.state is State.WRONG
        assert found.remedy
    for found in (*milvus(Place(tmp_path, False, tmp_path)), *redis("")):
        assert (found.state, "embedded" in found.says) == (State.GOOD, True)


def test_places_come_from_options_then_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GEOFIX_")]:
        monkeypatch.delenv(name)
    assert not Place.from_environment(None, None).bundle_named
    monkeypatch.setenv("GEOFIX_BUNDLE", "named")
    monkeypatch.setenv("GEOFIX_PROVIDERS", "A,B")
    place = Place.from_environment(None, tmp_path)
    assert (place.bundle, place.bundle_named, place.data_dir, place.providers) == (
        Path("named"),
        True,
        tmp_path,
        ("A", "B"),
    )
    assert Place.from_environment(tmp_path, None).bundle == tmp_path
