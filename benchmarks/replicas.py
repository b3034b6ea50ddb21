"""Several replicas of every service as processes over one Milvus and one Valkey, as a cluster has them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.loader import make_live
from geofix.gallery.store import Store
from geofix.platform.child import Child, Spec
from geofix.platform.ports import HOST, free_ports
from geofix.platform.probe import Probe
from geofix.platform.specs import make_plan

BEHIND = ("classifier", "embedder", "retrieval")


@dataclass(frozen=True)
class Stores:
    """Where the stores are.

    Attributes:
        bundle: what is served; its gallery is live.
        milvus: http address of a Milvus Lite server.
        redis: URL of a Valkey.
    """

    bundle: Bundle
    milvus: str
    redis: str

    def specs(self, replicas: int) -> list[Spec]:
        """`<service>-<number>` for every service, the gateway's last; each gateway calls all replicas of the others."""
        given = {key: value for key, value in os.environ.items() if not key.startswith("GEOFIX_")}
        given |= {"GEOFIX_MILVUS_URI": self.milvus, "GEOFIX_REDIS_URL": self.redis}
        given |= {"GEOFIX_DRAIN_DELAY_S": "2", "GEOFIX_DRAIN_S": "10"}
        plan = {spec.name: spec for spec in make_plan(self.bundle, 0, Path("unused"), given).services}
        addresses = {name: [f"{HOST}:{port}" for port in free_ports(replicas)] for name in (*BEHIND, "gateway")}
        targets = {f"GEOFIX_{name.upper()}_ADDR": f"ipv4:{','.join(addresses[name])}" for name in BEHIND}
        found = []
        for name, hosts in addresses.items():
            for number, address in enumerate(hosts):
                environment = {**plan[name].environment, **targets, "GEOFIX_LISTEN": address, "GEOFIX_ADMIN_LISTEN": ""}
                found.append(replace(plan[name], name=f"{name}-{number}", address=address, environment=environment))
        return found


@contextlib.contextmanager
def stores(bundle: Bundle, directory: Path) -> Iterator[Stores]:
    """A Milvus Lite server in this process with the bundle's gallery live, and a Valkey."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    spec = make_plan(bundle, 0, directory / "milvus.db", {"PATH": os.environ["PATH"]}).valkey
    assert spec is not None
    valkey = Child(spec, directory / "valkey.log")
    server, database, port = start_server_in_thread(str(directory / "milvus.db"), HOST, 0)
    try:
        valkey.start()
        until_ready(spec, valkey)
        uri = f"http://{HOST}:{port}"
        with Store(uri) as store:
            make_live(DirectAdmin(store, bundle), bundle, lambda _done, _total: None)
        yield Stores(bundle, uri, f"redis://{spec.address}/0")
    finally:
        valkey.kill()
        server.stop(grace=0).wait()
        database.close()


def until_ready(spec: Spec, child: Child, seconds: float = 120) -> None:
    """Wait for a child.

    Raises:
        SystemExit: it ended, or is not ready in time; with the end of its log.
    """
    probe = Probe(spec)
    end = time.monotonic() + seconds
    while not probe.ready():
        if child.pid is None or time.monotonic() > end:
            raise SystemExit(f"{spec.name} does not become ready:\n{child.last_lines()}")
        time.sleep(0.05)
    probe.close()
