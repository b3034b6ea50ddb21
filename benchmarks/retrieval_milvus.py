"""A gallery in Milvus for benchmarks/retrieval.py: filled by geofix, searched through the service and by pymilvus alone."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from geofix.bundle import REQUIRED, Bundle, write_manifest
from geofix.channel import channel_options
from geofix.decision import DecisionRule
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import OUTPUT_FIELDS, GalleryInfo, partition_name, partition_names
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.gallery.version_collections import make
from geofix.gallery.versions import Summary
from geofix.images import Preprocessing
from geofix.platform.child import Child, Spec
from geofix.platform.ports import HOST, free_ports
from geofix.platform.probe import Probe
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix.vectors import pack_vector
from processes import processor_s
from retrieval_data import Data, K, Query

ROWS_TOGETHER = 1_000


def write_bundle(directory: Path, cells: int, dim: int) -> Bundle:
    """A bundle of which retrieval needs only the manifest: as many cells, embeddings of as many values."""
    directory.mkdir()
    for name in REQUIRED:
        (directory / name).touch()
    write_manifest(
        directory,
        name="benchmark",
        license="Apache-2.0",
        description="only dimensions",
        preprocessing=Preprocessing(size=32, fit="squash", resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        feature_dim=dim,
        embedding_dim=dim,
        cell_count=cells,
        decision=DecisionRule(
            cells=5, k=K, temperature=0.015, mode_scale_km=400, refine_km=100, eps_km=60, min_samples=1, swc_k=10
        ),
    )
    return Bundle.describe(directory)


def batches(data: Data, partitions: int, most: int | None = None) -> Iterator[list[ImageRow]]:
    """Rows to write together, of one partition each; at most `most` in all."""
    written = 0
    for partition in range(partitions):
        rows = np.flatnonzero(data.cell % partitions == partition)
        for start in range(0, len(rows), ROWS_TOGETHER):
            if most is not None and written >= most:
                return
            part = rows[start : start + ROWS_TOGETHER]
            written += len(part)
            yield [_row(data, int(row)) for row in part]


def _row(data: Data, row: int) -> ImageRow:
    return ImageRow(
        id=f"{row:032x}",
        lat=row % 180 - 90.0,
        lon=row % 360 - 180.0,
        cell_id=int(data.cell[row]),
        embedding=data.vectors[row],
        picture=f"https://example.org/pictures/{row:09d}.jpg",
        attribution="benchmark",
    )


def fill(admin: DirectAdmin, label: str, data: Data) -> GalleryInfo:
    """A live version that holds the images."""
    version = admin.create(label, len(data)).name
    info = admin.begin_add(version, "benchmark")
    for batch in batches(data, info.partitions):
        admin.insert(version, batch)
    admin.finish_add(version, "benchmark")
    admin.seal(version, Summary(len(data), 0, len(np.unique(data.cell)), "0" * 16, ""))
    return admin.promote(version, "")


def insert_rates(store: Store, bundle: Bundle, data: Data, rows: int) -> tuple[float, float]:
    """Rows a second that geofix inserts, and that pymilvus alone inserts, in turns into two collections of one layout."""
    admin, client = DirectAdmin(store, bundle), store.client
    ours = admin.begin_add(admin.create("rate", len(data)).name, "benchmark")
    alone = make(store, GalleryInfo("gallery_alone_0", "alone@0", 0, 0, ours.embedding_dim, ours.partitions))
    seconds, count = [0.0, 0.0], 0
    for index, batch in enumerate(batches(data, ours.partitions, rows)):
        count += len(batch)
        # Records are made outside the clock: pymilvus alone gets them ready made. geofix gets images, and checks and hashes them.
        records = [row.record() for row in batch]
        fresh = [_copy(row) for row in batch]
        partition = partition_name(batch[0].cell_id, ours.partitions)
        for turn in (index % 2, 1 - index % 2):
            began = time.perf_counter()
            if turn == 0:
                admin.insert(ours.name, fresh)
            else:
                client.insert(alone.name, records, partition_name=partition)
            seconds[turn] += time.perf_counter() - began
    admin.delete(ours.name)
    client.drop_collection(alone.name)
    return count / seconds[0], count / seconds[1]


def _copy(row: ImageRow) -> ImageRow:
    fields = ("id", "lat", "lon", "cell_id", "embedding", "picture", "attribution")
    return ImageRow(**{name: getattr(row, name) for name in fields})


class Service:
    """A retrieval service in a process of its own.

    Args:
        bundle: of the gallery.
        uri: of Milvus.
        directory: for its log.
    """

    def __init__(self, bundle: Bundle, uri: str, directory: Path) -> None:
        self.address = f"{HOST}:{free_ports(1)[0]}"
        settings = {"GEOFIX_BUNDLE": str(bundle.directory), "GEOFIX_MILVUS_URI": uri, "GEOFIX_LISTEN": self.address}
        environment = {"PATH": os.environ["PATH"], **settings}
        command = (sys.executable, "-m", "geofix_retrieval")
        spec = Spec("retrieval", command, environment, self.address, "geofix.v1.RetrievalService")
        self._child = Child(spec, directory / "retrieval.log")
        self._child.start()
        probe, end = Probe(spec), time.monotonic() + 300
        while not probe.ready():
            if self._child.exit_code is not None or time.monotonic() > end:
                raise SystemExit(self._child.last_lines())
            time.sleep(0.1)
        self._channel = grpc.insecure_channel(self.address, options=channel_options(-1))

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._child.pid is not None
        return self._child.pid

    def searching(self, version: str) -> ThroughService:
        """Searches in a version."""
        return ThroughService(rpc.RetrievalServiceStub(self._channel), version)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._child.kill()


class ThroughService:
    """Searches through the service, one query a call."""

    def __init__(self, stub: Any, version: str) -> None:
        self._stub, self._version = stub, version

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""
        asked = pb.SearchQuery(embedding=pack_vector(query.vector), cell_ids=query.cells, k=K)
        answer = self._stub.Search(pb.SearchRequest(queries=[asked], gallery_version=self._version), timeout=60)
        return np.array([int(neighbor.id, 16) for neighbor in answer.results[0].neighbors], np.int64)


class PymilvusAlone:
    """Searches with pymilvus's client in the same collection and for the same fields."""

    def __init__(self, uri: str, info: GalleryInfo) -> None:
        self._client, self._info = MilvusClient(uri), info

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""
        (hits,) = self._client.search(
            self._info.name,
            data=[query.vector],
            limit=K,
            filter=f"cell_id in {sorted(query.cells)}",
            partition_names=partition_names(query.cells, self._info.partitions),
            output_fields=list(OUTPUT_FIELDS),
            search_params={"metric_type": "IP"},
            consistency_level="Bounded",
            timeout=60,
        )
        return np.array([int(hit["id"], 16) for hit in hits], np.int64)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def settle(pid: int | None, quiet_s: float = 75.0, most_s: float = 1200.0) -> str:
    """Wait until a server that was filled has put its segments in order; says how that ended.

    It has when it used under a fifth of a core in every 5 s of `quiet_s`: Milvus looks for segments to compact once a minute
    (dataCoord.compaction.globalInterval), and is still between two rounds.
    """
    if pid is None:
        return "measured at once: whether the server had put its segments in order is not known"
    began = calm = time.monotonic()
    while time.monotonic() < calm + quiet_s:
        if time.monotonic() > began + most_s:
            return f"the server had not put its segments in order {most_s:.0f} s after it was filled: measured all the same"
        before = processor_s(pid)
        time.sleep(5)
        if processor_s(pid) - before > 1.0:
            calm = time.monotonic()
    return f"measured when the server had put its segments in order, {calm - began:.0f} s after it was filled"


@contextlib.contextmanager
def server(given: str, directory: Path) -> Iterator[tuple[str, int | None, Path | None]]:
    """A Milvus server: the one that is given, or a standalone 2.3.5 started here; its URI, process and data if they are here."""
    if given:
        yield given, None, None
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from milvus_server import real_milvus

    with real_milvus(directory) as milvus:
        yield milvus.uri, milvus.pid, directory
