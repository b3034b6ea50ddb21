"""The supervisor's parts, each on its own: ports, the data directory's lock, children, probes, the plan."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.platform import child as child_module
from geofix.platform.child import Child, Spec
from geofix.platform.directory import DataDirectory, default_data_dir
from geofix.platform.errors import PlatformError
from geofix.platform.loading import Progress
from geofix.platform.ports import claim_port, free_ports
from geofix.platform.probe import Probe
from geofix.platform.reporter import Reporter
from geofix.platform.specs import make_plan


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def python(code: str) -> Spec:
    return Spec("child", (sys.executable, "-c", code), os.environ)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    each = Child(python("import time; print('here', flush=True); time.sleep(60)"), tmp_path / "log")
    yield each
    each.kill()


def test_free_ports_differ_and_can_be_used() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert claim_port(ports[0]) == ports[0]
    assert claim_port(0) > 0


def test_a_port_that_is_listened_on_cannot_be_claimed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PlatformError, match=f"port {port} is in use"):
            claim_port(port)


def test_the_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path / "d"), DataDirectory(tmp_path / "d")
    first.acquire()
    with pytest.raises(PlatformError, match=rf"in use by another `geofix up` \(pid {os.getpid()}\)"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="--data-dir"):
        DataDirectory(tmp_path / "file" / "d").acquire()


def test_default_data_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEOFIX_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_data_dir() == Path("/home/someone/.local/share/geofix")
    monkeypatch.setenv("XDG_DATA_HOME", "/share")
    assert default_data_dir() == Path("/share/geofix")
    monkeypatch.setenv("GEOFIX_DATA_DIR", "/data")
    assert default_data_dir() == Path("/data")


def test_a_child_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = Child(python(code), tmp_path / "log")
    child.start()
    until(lambda: child.log.read_text().strip().isdigit())
    grandchild = int(child.log.read_text())
    child.kill()
    assert child.pid is None
    assert child.how_it_ended() == "killed by SIGKILL"
    until(lambda: not alive(grandchild))


def test_a_child_has_a_session_of_its_own(child: Child) -> None:
    child.start()
    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, time
from pathlib import Path
from geofix.platform import child as child_module
from geofix.platform.child import Child, Spec
child = Child(Spec("c", ({sys.executable!r}, "-c", "import time; time.sleep(60)"), os.environ), Path({str(tmp_path / "log")!r}))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)  # until the guard has tied it to its parent
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))


def test_exit_codes_and_last_lines_are_told(tmp_path: Path) -> None:
    child = Child(python("import sys; [print(i) for i in range(50)]; sys.exit(3)"), tmp_path / "log")
    child.start()
    assert child.wait(60)
    assert child.how_it_ended() == "exit code 3"
    assert child.last_lines(2) == "  48\n  49"
    child.start(first=False)
    assert child.wait(60)
    assert len(child.log.read_text().splitlines()) == 100
    child.start()
    assert child.wait(60)
    assert len(child.log.read_text().splitlines()) == 50


def test_three_restarts_within_a_minute_and_no_more(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(child_module, "time", SimpleNamespace(monotonic=lambda: now))
    assert [child.may_restart() for _ in range(4)] == [1, 2, 3, 0]
    now += 61
    assert child.may_restart() == 1


def test_terminate_is_gentle(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)"
    )
    child = Child(python(code), tmp_path / "log")
    child.start()
    until(lambda: "up" in child.log.read_text())
    child.terminate()
    assert child.wait(60)
    assert child.exit_code == 0
    child.terminate()  # a second time: nothing happens


def test_the_plan_gives_every_service_what_it_needs(bundle: Bundle, tmp_path: Path) -> None:
    plan = make_plan(bundle, 50051, tmp_path / "milvus.db", {"PATH": "/bin", "GEOFIX_LOG_LEVEL": "DEBUG"})
    by_name = {spec.name: spec for spec in plan.services}
    assert list(by_name) == ["classifier", "embedder", "retrieval", "gateway"]
    assert plan.valkey is not None
    gateway = by_name["gateway"].environment
    assert gateway["GEOFIX_LISTEN"] == by_name["gateway"].address == "127.0.0.1:50051"
    assert (
        gateway["GEOFIX_RETRIEVAL_ADDR"]
        == by_name["retrieval"].address
        == by_name["retrieval"].environment["GEOFIX_LISTEN"]
    )
    assert gateway["GEOFIX_REDIS_URL"] == f"redis://{plan.valkey.address}/0"
    assert gateway["GEOFIX_LOG_LEVEL"] == "DEBUG"
    assert by_name["classifier"].environment["GEOFIX_ALSO_EMBED"] == "true"
    assert by_name["retrieval"].environment["GEOFIX_MILVUS_URI"] == str(tmp_path / "milvus.db")
    assert len({spec.address for spec in plan.services}) == 4


def test_settings_that_name_stores_replace_the_embedded_ones(bundle: Bundle, tmp_path: Path) -> None:
    given = {"GEOFIX_MILVUS_URI": "http://milvus:19530", "GEOFIX_REDIS_URL": "redis://cache/1", "GEOFIX_DRAIN_S": "7"}
    given["GEOFIX_ALSO_EMBED"] = "false"
    plan = make_plan(bundle, 50051, tmp_path / "milvus.db", given)
    assert plan.valkey is None
    assert plan.drain_s == 7
    for spec in (plan.loader, *plan.services):
        assert given.items() <= spec.environment.items()


def test_a_probe_of_what_does_not_listen_says_not_ready() -> None:
    (port,) = free_ports(1)
    for health_name in ("geofix.v1.ClassifierService", ""):
        probe = Probe(Spec("x", (), {}, f"127.0.0.1:{port}", health_name, "GetModelInfo"))
        assert not probe.ready()
        assert probe.refusal() is None
        probe.close()


def test_progress_is_read_and_noise_is_not() -> None:
    progress = Progress()
    progress.follow(io.StringIO('noise\n{"done": 3, "total": 9}\n{"error": "no"}\n'))
    until(lambda: progress.error == "no")
    assert (progress.done, progress.total) == (3, 9)


def test_lines_say_what_they_are_given() -> None:
    out = io.StringIO()
    reporter = Reporter(Console(file=out))
    reporter.say("gateway", "[red]127.0.0.1[/red] " + "x" * 200, "green")
    reporter.loading(0, 0)
    reporter.loading(1, 12_000)
    reporter.loading(2, 12_000)
    reporter.close()
    assert out.getvalue().splitlines() == [
        "gateway     [red]127.0.0.1[/red] " + "x" * 200,
        "gallery     loading 12,000 images (only the first start does)",
    ]


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=True, width=80))
    reporter.loading(6_000, 12_000)
    reporter.loading(12_000, 12_000)
    reporter.close()
    assert "12000/12000" in out.getvalue()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_metrics_that_are_asked_for_get_a_port_each(bundle: Bundle, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    quiet = make_plan(bundle, 1, tmp_path / "milvus.db", environment)
    assert not any(spec.metrics or "GEOFIX_METRICS_LISTEN" in spec.environment for spec in quiet.services)
    free = make_plan(bundle, 1, tmp_path / "milvus.db", environment | {"GEOFIX_METRICS": "on"})
    assert len({spec.metrics for spec in free.services}) == len(free.services)
    for first in range(20000, 30000, 4):  # until four neighbours are free
        try:
            fixed = make_plan(bundle, 1, tmp_path / "milvus.db", environment | {"GEOFIX_METRICS": str(first)})
        except PlatformError as error:
            assert "is in use" in error.message  # noqa: PT017  # others listen on this machine, too
            continue
        break
    for offset, spec in enumerate(fixed.services):
        assert spec.metrics == f"http://127.0.0.1:{first + offset}/metrics"
        assert spec.environment["GEOFIX_METRICS_LISTEN"] == f"127.0.0.1:{first + offset}"


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [("GEOFIX_METRICS", "65535", "first of 4 ports"), ("GEOFIX_METRICS_LISTEN", "127.0.0.1:1", "GEOFIX_METRICS=on")],
)
def test_metrics_that_cannot_be_served_stop_the_start(
    bundle: Bundle, tmp_path: Path, variable: str, value: str, advice: str
) -> None:
    with pytest.raises(PlatformError, match=advice):
        make_plan(bundle, 1, tmp_path / "milvus.db", {"PATH": os.environ["PATH"], variable: value})
