"""The real stores that tests start and stop: Valkey as a process, and Milvus Lite's server in this one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from milvus_lite.adapter.grpc.server import start_server_in_thread

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.loader import fill_own
from geofix.gallery.store import Store
from geofix.platform.child import Child
from geofix.platform.probe import Probe
from geofix.platform.specs import make_plan


class Valkey:
    """A Valkey on a port of its own, started as `geofix up` starts it; a second start is on the same port."""

    def __init__(self, bundle: Bundle, directory: Path) -> None:
        spec = make_plan(bundle, 0, directory / "milvus.db", {"PATH": os.environ["PATH"]}).valkey
        assert spec is not None
        self.url = f"redis://{spec.address}/0"
        self._child = Child(spec, directory / "valkey.log")
        self._probe = Probe(spec)

    def start(self) -> None:
        self._child.start()
        end = time.monotonic() + 30
        while not self._probe.ready():
            assert time.monotonic() < end, self._child.last_lines()
            time.sleep(0.02)

    def stop(self) -> None:
        self._child.kill()

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as connection:
            connection.flushall()

    def freeze(self) -> None:
        """It keeps its port and its connections, and answers nothing."""
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGCONT)


@contextlib.contextmanager
def valkey(bundle: Bundle, directory: Path) -> Iterator[Valkey]:
    """A Valkey that runs."""
    server = Valkey(bundle, directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def milvus_server(directory: Path, port: int) -> Iterator[str]:
    """Milvus Lite's server, as others reach a Milvus: by an address."""
    server, database, port = start_server_in_thread(str(directory), "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()
        database.close()


def promote_a_copy(bundle: Bundle, uri: str) -> str:
    """Load and promote a gallery of the same bundle version under another name, as a re-indexing makes it; its name."""

    class Renamed(Bundle):
        @property
        def gallery_version(self) -> str:
            return f"{self.gallery_alias}_ffffffffffffffff"

    renamed = Renamed(bundle.directory, bundle.manifest)
    with Store(uri) as store:
        admin = DirectAdmin(store, renamed)
        return admin.promote(fill_own(admin, renamed).name, "").name


def drop(uri: str, collection: str) -> None:
    """Drop a collection."""
    with Store(uri) as store:
        store.client.drop_collection(collection)
