"""What happens to a deployment at its start: a disk that is full, a Milvus that is not there yet, bundles that do not match."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from grpc_health.v1 import health_pb2

from backends import HOST
from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.gallery.loader import load_bundle_gallery
from geofix.platform.ports import free_ports
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings
from platforms import clean_environment
from running import LISTEN, running, state_of, until_state
from stores import milvus_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# The one-shot loader with a limit on the size of a file: its writes fail as they do on a volume that is full.
_LOAD_WITHOUT_ROOM = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["geofix.platform.loading"]
runpy.run_module("geofix.platform.loading", run_name="__main__")
"""


def load(bundle: Bundle, directory: Path, most_bytes: int = 1 << 40) -> tuple[int, dict[str, object]]:
    """Exit code and last word of the loader, where no file may grow beyond `most_bytes`."""
    settings = {"GEOFIX_BUNDLE": str(bundle.directory), "GEOFIX_MILVUS_URI": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_WITHOUT_ROOM, str(most_bytes)],
        env=clean_environment() | settings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    return done.returncode, json.loads(lines[-1])


def test_a_full_volume_ends_the_loader_with_a_reason_and_room_mends_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    directory = tmp_path / "milvus.db"
    directory.mkdir()
    code, said = load(bundle, directory, most_bytes=4096)
    assert code == 2
    assert said.get("error")
    assert load(bundle, directory) == (0, {"live": bundle.gallery_version})


async def test_retrieval_waits_for_a_milvus_that_comes_later(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    lite, (port,) = tmp_path / "milvus.db", free_ports(1)
    load_bundle_gallery(bundle, str(lite))
    settings = RetrievalSettings(listen=LISTEN, bundle=bundle.directory, milvus_uri=f"http://{HOST}:{port}")
    service = RetrievalService(settings)
    async with running(service, settings, ready=False) as channel:
        assert await state_of(channel, "") == SERVING  # alive: Kubernetes lets it wait
        assert await state_of(channel, service.full_name) == NOT_SERVING
        with milvus_server(lite, port):
            await until_state(channel, service.full_name, SERVING, 60)


def test_the_loader_names_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "milvus.db").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "geofix.platform.loading"],
        env=clean_environment() | {"GEOFIX_BUNDLE": "/nowhere", "GEOFIX_MILVUS_URI": str(tmp_path / "milvus.db")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "/nowhere" in json.loads(done.stdout.splitlines()[-1])["error"]
