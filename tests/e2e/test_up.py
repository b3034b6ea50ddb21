"""`geofix up` with everything real: processes, Milvus Lite, Valkey, signals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread

from bundle_factory import image_of, make_bundle
from geofix.bundle import Bundle
from geofix.errors import MismatchError
from geofix.geo import haversine_km
from geofix.platform import Platform, PlatformError
from geofix.platform.directory import DataDirectory
from geofix.platform.ports import free_ports
from platforms import Up, locate, wait_until

pytestmark = pytest.mark.e2e

SERVICES = {"classifier", "embedder", "retrieval", "gateway", "valkey"}
Start = Callable[..., Up]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def loaded(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose gallery is loaded."""
    data_dir = tmp_path_factory.mktemp("data") / "geofix"
    with Platform(bundle.directory, data_dir):
        pass
    return data_dir


@pytest.fixture
def data_dir(loaded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(loaded, tmp_path / "geofix"))


@pytest.fixture
def start(bundle: Bundle, data_dir: Path) -> Iterator[Start]:
    """Start `geofix up`, by default on the loaded data directory and a free port."""
    started = []

    def make(**settings: str) -> Up:
        directory = Path(settings.pop("data_dir", str(data_dir)))
        port = int(settings.pop("port", str(free_ports(1)[0])))
        started.append(Up(Path(settings.pop("bundle", str(bundle.directory))), directory, port, **settings))
        return started[-1]

    yield make
    for up in started:
        up.end()


def assert_locates(address: str) -> None:
    answer = locate(address, image_of(48.0, 11.0))
    assert haversine_km(48.0, 11.0, answer.location.latitude, answer.location.longitude) < 2000


def test_ready_located_stopped_and_started_again(start: Start, tmp_path: Path) -> None:
    fresh = str(tmp_path / "new")
    up = start(data_dir=fresh)
    up.until_ready()
    assert re.search(r"gallery\s+500 images loaded in", up.output)
    for name in SERVICES:
        assert re.search(rf"{name}\s+127\.0\.0\.1:\d+  ready after \d+\.\d s", up.output)
    assert set(up.children()) == SERVICES
    assert_locates(f"127.0.0.1:{up.port}")
    assert up.interrupt() == 0
    assert "\x1b" not in up.output, "no colours where the output is not a terminal"
    assert up.processes() == []

    looked = tmp_path / "new" / "logs" / "gallery.log"
    before = looked.stat().st_mtime_ns
    again = start(data_dir=fresh)
    again.until_ready()
    assert "loaded" not in again.output
    assert looked.stat().st_mtime_ns == before, "the gallery was closed cleanly: no loader looks through it again"
    assert_locates(f"127.0.0.1:{again.port}")
    again.process.terminate()
    assert again.process.wait(60) == 0
    assert again.processes() == []

    (milvus,) = (tmp_path / "new").glob("*/milvus.db")
    shutil.rmtree(milvus)
    milvus.mkdir()
    mended = start(data_dir=fresh)
    mended.until_ready()
    assert "finds no gallery: looking through it" in mended.output
    assert "500 images loaded" in mended.output
    assert_locates(f"127.0.0.1:{mended.port}")


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8, 1.2, 1.6, 2.0, 2.6])
def test_interrupted_at_any_moment_nothing_stays(start: Start, tmp_path: Path, seconds: float) -> None:
    up = start(data_dir=str(tmp_path / "new"))
    time.sleep(seconds)
    code = up.interrupt()
    # Before the command has taken the signal over (while Python imports), Python itself ends, and nothing was started.
    assert code == 0 or not (tmp_path / "new").exists(), up.output
    assert up.processes() == []
    assert not (tmp_path / "new" / "lock").exists()
    directory = DataDirectory(tmp_path / "new")
    directory.acquire()
    directory.release()


def test_interrupted_while_loading(start: Start, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "large", gallery_rows=40_000)
    up = start(bundle=str(bundle.directory), data_dir=str(tmp_path / "new"))
    up.until("gallery     loading 40,000 images")
    assert up.interrupt() == 0
    assert up.processes() == []
    again = start(bundle=str(bundle.directory), data_dir=str(tmp_path / "new"))
    again.until_ready()
    assert "40,000 images loaded" in again.output
    assert again.interrupt() == 0


def test_the_loader_killed_while_loading_is_started_again(start: Start, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "large", gallery_rows=40_000)
    up = start(bundle=str(bundle.directory), data_dir=str(tmp_path / "new"))
    up.until("gallery     loading 40,000 images")
    up.kill("gallery")
    up.until_ready()
    assert "gallery     died (killed by SIGKILL); started again, 1 of at most 3 times in 60 s" in up.output
    assert_locates(f"127.0.0.1:{up.port}")


def test_what_dies_is_started_again(start: Start) -> None:
    up = start()
    up.until_ready()
    for name in sorted(SERVICES):
        before = up.children()
        assert set(before) == SERVICES
        os.kill(before[name], signal.SIGKILL)
        up.until(f"{name:<11} died (killed by SIGKILL); started again, 1 of at most 3 times in 60 s")
        wait_until(partial(comes_back, up, name), 30, lambda: up.output)
        after = up.children()
        assert {other for other in SERVICES if before[other] != after.get(other)} == {name}
        wait_until(partial(answers, up), 15, lambda: up.output)
    assert up.interrupt() == 0
    assert up.processes() == []


def comes_back(up: Up, name: str) -> bool:
    return up.output.count(f"{name:<11} 127.0.0.1") == 2


def answers(up: Up) -> bool:
    try:
        assert_locates(f"127.0.0.1:{up.port}")
    except grpc.RpcError:
        return False
    return True


def test_what_dies_too_often_ends_the_platform(start: Start) -> None:
    up = start()
    up.until_ready()
    for deaths in range(1, 5):
        up.kill("embedder")
        if deaths <= 3:
            up.until(f"started again, {deaths} of at most 3 times")
    assert up.process.wait(60) == 1
    assert "embedder died 4 times within 60 s (killed by SIGKILL)" in up.output
    assert "the last lines of" in up.output
    assert up.processes() == []


def test_the_death_of_valkey_never_ends_the_platform(start: Start) -> None:
    up = start()
    up.until_ready()
    for _ in range(4):
        up.kill("valkey")
        wait_until(lambda: "valkey" in up.children() or "not cached" in up.output, 10)
    up.until("answers are not cached")
    assert set(up.children()) == SERVICES - {"valkey"}
    assert_locates(f"127.0.0.1:{up.port}")
    assert up.interrupt() == 0


def test_the_supervisor_killed_outright_leaves_nothing(start: Start, data_dir: Path) -> None:
    up = start()
    up.until_ready()
    up.process.kill()
    up.process.wait()
    wait_until(lambda: up.processes() == [], 30, up.children)
    again = start()
    again.until_ready()


def test_a_data_directory_in_use_says_by_whom(start: Start) -> None:
    up = start()
    up.until_ready()
    second = start()
    assert second.process.wait(60) == 1
    assert f"in use by another `geofix up` (pid {up.process.pid})" in second.output
    assert "--data-dir" in second.output
    assert_locates(f"127.0.0.1:{up.port}")


def test_a_port_in_use_says_which(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        up = start(port=str(port))
        assert up.process.wait(60) == 1
    assert f"port {port} is in use" in up.output
    assert "--port" in up.output
    assert up.processes() == []


@pytest.mark.parametrize("name", ["classifier.onnx", "gallery.parquet", "cells.parquet", "bundle.json"])
def test_a_changed_byte_in_the_bundle_says_in_which_file(
    bundle: Bundle, start: Start, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(bundle.directory, tmp_path / "bundle"))
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    up = start(bundle=str(copy))
    assert up.process.wait(60) == 1
    assert name in up.output
    assert str(copy) in up.output
    assert up.processes() == []


def test_a_service_that_never_becomes_ready_says_why(
    bundle: Bundle, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOFIX_PROVIDERS", "CUDAExecutionProvider")
    platform = Platform(bundle.directory, data_dir)
    with pytest.raises(PlatformError, match="cannot serve: asked for CUDAExecutionProvider"):
        platform.start()
    assert platform.pids == {}


def test_a_service_that_hangs_is_given_up_and_killed(bundle: Bundle, data_dir: Path) -> None:
    platform = Platform(bundle.directory, data_dir, ready_s=4)
    stopped = []

    def hang() -> None:
        wait_until(lambda: "embedder" in platform.pids, 20)
        stopped.append(platform.pids["embedder"])
        os.kill(stopped[0], signal.SIGSTOP)

    thread = threading.Thread(target=hang)
    thread.start()
    # On a busy machine another one may be late too, and be the first that is named.
    with pytest.raises(PlatformError, match=r"\w+ runs but is not ready after 4 s"):
        platform.start()
    thread.join()
    assert platform.pids == {}
    assert not Path(f"/proc/{stopped[0]}").exists()


def test_a_wrong_setting_is_named_at_once(bundle: Bundle, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOFIX_MAX_BATCH", "many")
    platform = Platform(bundle.directory, data_dir)
    with pytest.raises(PlatformError, match="GEOFIX_MAX_BATCH"):
        platform.start()
    assert platform.pids == {}


def test_a_milvus_that_is_not_there_is_named_and_not_made(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOFIX_MILVUS_URI", str(tmp_path / "typo"))
    with pytest.raises(PlatformError, match="GEOFIX_MILVUS_URI"):
        Platform(bundle.directory, tmp_path / "data").start()
    assert not (tmp_path / "typo").exists()


def test_stores_that_are_named_are_used(bundle: Bundle, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a team's own Milvus and Redis; here those of another platform."""
    with Platform(bundle.directory, data_dir) as first:
        redis = redis_of(first)
        monkeypatch.setenv("GEOFIX_REDIS_URL", redis)
        server, database, port = start_server_in_thread(str(data_dir.with_name("milvus")), "127.0.0.1", 0)
        monkeypatch.setenv("GEOFIX_MILVUS_URI", f"http://127.0.0.1:{port}")
        with Platform(bundle.directory, data_dir.with_name("second")) as second:
            assert set(second.pids) == SERVICES - {"valkey"}
            assert_locates(second.address)
        server.stop(grace=1).wait()
        database.close()
    assert list(data_dir.with_name("second").glob("*/milvus.db/*")) == []


def redis_of(platform: Platform) -> str:
    environment = Path(f"/proc/{platform.pids['gateway']}/environ").read_bytes().decode().split("\0")
    return next(each.partition("=")[2] for each in environment if each.startswith("GEOFIX_REDIS_URL="))


def test_the_platform_as_a_context_manager(bundle: Bundle, data_dir: Path) -> None:
    with Platform(bundle.directory, data_dir) as platform:
        assert set(platform.pids) == SERVICES
        assert_locates(platform.address)
    assert platform.pids == {}
    with pytest.raises(MismatchError), Platform(data_dir, data_dir):
        pass
