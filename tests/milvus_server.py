"""A real Milvus server as a process: PyPI's `milvus==2.3.5`, installed once into .cache/, apart from every other environment.

It is old, and so the strictest of what users may run. Its ports are free ones, but it listens on every interface; that cannot be
set. It writes to nothing but the directory that it is given.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pymilvus import MilvusClient, MilvusException

from geofix.platform.child import Child, Spec
from geofix.platform.ports import HOST, free_ports
from geofix.tls import TlsFiles
from laid_out import laid_out

VERSION = "2.3.5"
START_S = 120.0
_WRITE_CONFIG = """
import sys
sys.path.insert(0, sys.argv[1])
from milvus import MilvusServerConfig
config = MilvusServerConfig(data_dir=sys.argv[2])
config.configs |= dict(argument.split("=") for argument in sys.argv[3:])
config.resolve()
"""
_NAMES = ("etcd", "proxy", "proxy_internal", "root_coord", "query_coord", "query_node", "index_coord", "index_node")
_COMPONENTS = ("ROOTCOORD", "PROXY", "QUERYCOORD", "QUERYNODE", "INDEXNODE", "DATACOORD", "DATANODE")
_PORTS = tuple(f"{name}_port" for name in (*_NAMES, "data_coord", "data_node"))


def install() -> Path:
    """The directory of Milvus's binary and libraries; installs it where it is not yet."""
    return laid_out("milvus", VERSION, timeout_s=280, finish=_unpack) / "bin"


def _unpack(home: Path) -> None:
    (home / "bin").mkdir(exist_ok=True)
    for packed in (home / "package/milvus/data/bin").glob("*.lzma"):
        target = home / "bin" / packed.stem
        with lzma.open(packed) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        target.chmod(0o755)
        packed.unlink()


class MilvusServer:
    """A server over a data directory; `kill` and `start` again are on the same port and the same data.

    Args:
        directory: for its data and its log.
        settings: of milvus.yaml by their paths, such as {"common.security.authorizationEnabled": "true"}; only such as are in it.
        token: what it asks for then.
        tls: its certificate and key; it then takes TLS alone.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        token: str = "",
        tls: TlsFiles | None = None,
    ) -> None:
        self._token = token
        self._tls = {"secure": True, "server_pem_path": str(tls.ca)} if tls is not None else {}
        self._directory = directory
        self._settings = dict(settings or {})
        if tls is not None:
            files = {"serverPemPath": tls.cert, "serverKeyPath": tls.key, "caPemPath": tls.ca}
            self._settings |= {"common.security.tlsMode": "1"} | {
                f"tls.{key}": str(path) for key, path in files.items()
            }
        ports = free_ports(len(_PORTS) + 2)
        self._ports = dict(zip(_PORTS, ports, strict=False))
        self._peer_port, self._metrics_port = ports[-2:]
        self.uri = f"http://{HOST}:{self._ports['proxy_port']}"
        self._child: Child | None = None

    def start(self, seconds: float = START_S) -> None:
        """Start it and wait until it answers."""
        if self._child is None:
            self._child = Child(self._spec(install()), self._directory / "milvus.log")
        self._child.start(first=False)
        end = time.monotonic() + seconds
        while not self._answers():
            assert self._child.exit_code is None, f"Milvus ended: {self._child.last_lines()}"
            assert time.monotonic() < end, f"Milvus did not answer within {seconds} s: {self._child.last_lines()}"
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._child is not None
        assert self._child.pid is not None
        return self._child.pid

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._child is not None:
            self._child.kill()

    def _answers(self) -> bool:
        try:
            client = MilvusClient(self.uri, token=self._token, timeout=2, dedicated=True, **self._tls)
            with contextlib.closing(client):
                client.list_collections(timeout=2)
        except MilvusException:
            return False
        return True

    def _spec(self, binaries: Path) -> Spec:
        configs = self._directory / "configs"
        configs.mkdir(parents=True, exist_ok=True)
        (configs / "etcd.yaml").write_text(self._etcd())
        ports = [f"{name}={port}" for name, port in self._ports.items()]
        write = [sys.executable, "-c", _WRITE_CONFIG, str(binaries.parent / "package"), str(self._directory), *ports]
        subprocess.run(write, check=True, timeout=60)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "LD_LIBRARY_PATH": str(binaries),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._metrics_port),
            "MILVUSCONF": str(configs),
            "MILVUS_RUN_DIR": str(self._directory / "run"),
            "ETCD_CONFIG_PATH": str(configs / "etcd.yaml"),
        }
        environment |= {f"{component}_IP": HOST for component in _COMPONENTS}
        environment |= {name.replace(".", "_").upper(): value for name, value in self._settings.items()}
        return Spec("milvus", (str(binaries / "milvus"), "run", "standalone"), environment, self.uri)

    def _etcd(self) -> str:
        client, peer = f"http://{HOST}:{self._ports['etcd_port']}", f"http://{HOST}:{self._peer_port}"
        return (
            f"name: default\ndata-dir: {self._directory}/data/etcd.data\nlog-level: warn\n"
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        )


@contextlib.contextmanager
def real_milvus(
    directory: Path, settings: Mapping[str, str] | None = None, token: str = "", tls: TlsFiles | None = None
) -> Iterator[MilvusServer]:
    """A server that runs."""
    server = MilvusServer(directory, settings, token, tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()
