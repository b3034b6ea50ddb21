"""`k8s/blue-green.sh` on two real platforms: clients move from one model to the other without a failed or a mixed answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundle_factory import image_of, make_bundle
from geofix.bundle import Bundle
from geofix.platform import Platform
from platforms import locate, wait_until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@dataclass
class Cluster:
    """The stand-in's folder and the script on it."""

    folder: Path

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        kubectl = f"{sys.executable} {ROOT / 'tests/kubectl_standin.py'}"
        environment = os.environ | {"CLUSTER": str(self.folder), "KUBECTL": kubectl, "WAIT": "2s"}
        command = ["sh", str(ROOT / "k8s/blue-green.sh"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def run(self, slot: str, platform: Platform) -> None:
        addresses = platform.addresses | {"web": platform.page.removeprefix("http://")}
        (self.folder / f"geofix-{slot}.json").write_text(json.dumps(addresses))

    def address(self) -> str:
        """What the Service `geofix` leads to, as DNS would answer a client that looks."""
        name = json.loads((self.folder / "geofix.json").read_text())["spec"]["externalName"]
        slot = name.split(".")[1]
        return str(json.loads((self.folder / f"{slot}.json").read_text())["gateway"])


@dataclass
class Clients:
    """Calls without a pause, each on a connection that looks the Service up; another image every third call."""

    cluster: Cluster
    versions: list[tuple[str, str]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Clients:
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        wait_until(lambda: len(self.versions) > 2, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                answer = locate(self.cluster.address(), image_of(40.0 + len(self.versions) // 3 % 8, 10.0))
                self.versions.append((answer.model_version, answer.gallery_version))
            except Exception as error:
                self.errors.append(error)


@pytest.mark.timeout(300)
def test_a_new_model_takes_over_and_gives_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blue, green = make_bundle(tmp_path / "blue-bundle"), make_bundle(tmp_path / "green-bundle", seed=1)
    cluster = Cluster(tmp_path / "cluster")
    cluster.folder.mkdir()
    with Platform(blue.directory, tmp_path / "blue", web_port=0) as first:
        cluster.run("blue", first)
        assert cluster.script("start", "blue", "overlay").returncode == 0
        assert cluster.script("switch", "blue").stdout.endswith("blue is live\n")
        # One cache for both, as where they share a Redis: its keys hold the model and the gallery.
        monkeypatch.setenv("GEOFIX_REDIS_URL", f"redis://{first.addresses['valkey']}/0")
        with Clients(cluster) as clients:
            refused = cluster.script("start", "blue", "overlay")
            assert (refused.returncode, refused.stderr) == (1, "blue is live: start the other one\n")
            refused = cluster.script("retire", "blue")
            assert (refused.returncode, refused.stderr) == (1, "blue is live: switch to the other one first\n")
            assert cluster.script("switch", "green").returncode != 0, "nothing of green is ready"
            assert cluster.script("live").stdout == "blue\n"
            with Platform(green.directory, tmp_path / "green", web_port=0) as second:
                cluster.run("green", second)
                assert cluster.script("start", "green", "overlay").returncode == 0
                switched(cluster, clients, "green", green)
                switched(cluster, clients, "blue", blue)
                assert cluster.script("retire", "green").returncode == 0
    assert not clients.errors
    assert set(clients.versions) == {(b.version, b.gallery_version) for b in (blue, green)}
    calls = (cluster.folder / "calls").read_text()
    assert "delete namespace geofix-green" in calls
    assert "delete namespace geofix-blue" not in calls


def switched(cluster: Cluster, clients: Clients, slot: str, bundle: Bundle) -> None:
    """Switch, and see that from then on every answer is of the slot's model, the first of an image as the cached one."""
    done = cluster.script("switch", slot)
    assert done.stdout.endswith(f"{slot} is live\n"), done.stderr
    begun = len(clients.versions) + 1  # one call may have looked before
    wait_until(lambda: len(clients.versions) > begun + 30, 30)
    assert set(clients.versions[begun:]) == {(bundle.version, bundle.gallery_version)}
