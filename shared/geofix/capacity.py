"""How many replicas a load needs: from measured figures, queueing theory, and the arithmetic of galleries. Pure.

A replica with c cores is a queue with c servers (M/M/c): calls arrive at random, and each occupies a core for as long as was
measured. The share of calls that wait is Erlang's C formula; of those, the wait is exponential with rate c/s - λ, s being the
seconds of a call and λ the calls a second of one replica (Gross et al., Fundamentals of Queueing Theory, 4th edition, 2.3).
Service times vary less than exponentially, so real waits are shorter: the plan is on the safe side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from geofix.errors import InvalidInput

SERVICES = ("gateway", "classifier", "embedder", "retrieval")
BUSY = 0.7
"""Share of its cores that a replica uses at most: above, a small peak makes long queues."""
LEAST_REPLICAS = 2
"""One may be replaced or die while the other answers."""
ROW_BYTES_BESIDE_VECTOR = 376
"""Of a gallery image in memory, beside its embedding (docs/sizing.md)."""
MILVUS_FULL = 0.7
"""Share of a query node's memory that loaded rows may take: the rest is for compaction and growing segments."""
HOURS_A_MONTH = 730
PERCENT = 0.01
"""Calls that may take longer than the wanted time."""


@dataclass(frozen=True)
class Figures:
    """What was measured; `shared/geofix/data/capacity.json` says by which command, where and when.

    Attributes:
        core_s: core seconds of one image, by service.
        memory_mib: most resident memory of a process, by service.
        latency_p99_s: of an image alone on the machine.
        row_s: core seconds to compare one gallery row.
        rows_searched: rows that one image's search compared when `core_s` was measured.
        cells_searched: cells that one image's search looks into.
        embedding_dim: values of an embedding.
    """

    core_s: Mapping[str, float]
    memory_mib: Mapping[str, float]
    latency_p99_s: float
    row_s: float
    rows_searched: float
    cells_searched: int
    embedding_dim: int


@dataclass(frozen=True)
class Demand:
    """What is asked of a deployment.

    Attributes:
        qps: images a second at the peak.
        gallery: images in the gallery.
        p99_s: seconds that 99 % of answers may take at most.
        cache_hits: share of images that are answered from the cache, 0 to 1.
        cores: of one replica.
    """

    qps: float
    gallery: int
    p99_s: float
    cache_hits: float = 0.0
    cores: int = 2


@dataclass(frozen=True)
class Part:
    """One service of a plan: its replicas, how busy their cores are (0 to 1), its p99 of waiting, and memory of a replica."""

    replicas: int
    busy: float
    wait_p99_s: float
    memory_mib: float


@dataclass(frozen=True)
class Plan:
    """What a demand needs.

    Attributes:
        parts: by service.
        p99_s: expected; the sum of the services' p99s, which the p99 of the sum does not exceed in practice.
        milvus_gib: memory of Milvus with one version loaded.
        milvus_gib_replacing: while a version is built beside it.
        cores: of all replicas.
        memory_gib: of all replicas.
    """

    parts: Mapping[str, Part]
    p99_s: float
    milvus_gib: float
    milvus_gib_replacing: float
    cores: int
    memory_gib: float

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "services": {name: vars(part) for name, part in self.parts.items()},
            "p99_s": self.p99_s,
            "milvus_gib": self.milvus_gib,
            "milvus_gib_replacing": self.milvus_gib_replacing,
            "cores": self.cores,
            "memory_gib": self.memory_gib,
            "core_hours_a_month": self.cores * HOURS_A_MONTH,
            "gib_hours_a_month": (self.memory_gib + self.milvus_gib_replacing) * HOURS_A_MONTH,
        }


def measured() -> Figures:
    """The figures that ship with geofix."""
    found = {name: entry["value"] for name, entry in measured_record()["figures"].items()}
    return Figures(**found)


def measured_record() -> dict[str, Any]:
    """The figures with how they were measured."""
    record: dict[str, Any] = json.loads((files("geofix") / "data/capacity.json").read_text())
    return record


def plan(figures: Figures, demand: Demand, partitions: int) -> Plan:
    """The fewest replicas that keep cores below `BUSY` and answers within the wanted time.

    Args:
        figures: what was measured.
        demand: what is asked.
        partitions: hash partitions of a gallery of that size (`geofix.gallery.layout.partition_count`).

    Raises:
        InvalidInput: a number cannot be, or the wanted time is shorter than an answer takes alone.
    """
    _check(demand)
    searched = demand.gallery * min(1.0, figures.cells_searched / partitions)
    search_s = max(0.0, searched - figures.rows_searched) * figures.row_s
    core_s = {**figures.core_s, "retrieval": figures.core_s["retrieval"] + search_s}
    alone_s = figures.latency_p99_s + search_s
    if demand.p99_s <= alone_s:
        raise InvalidInput(
            f"--p99 {demand.p99_s:g}: an answer takes {alone_s:.3f} s at 99 % without any other load; ask for more time, or "
            "measure on faster machines (benchmarks/capacity.py)",
            metadata={"option": "p99"},
        )
    computed = demand.qps * (1 - demand.cache_hits)
    load = {name: demand.qps if name == "gateway" else computed for name in SERVICES}
    replicas = {
        name: max(LEAST_REPLICAS, math.ceil(load[name] * core_s[name] / (BUSY * demand.cores))) for name in SERVICES
    }

    def wait(name: str) -> float:
        return wait_p99_s(load[name] / replicas[name], core_s[name], demand.cores)

    while sum(map(wait, SERVICES)) > demand.p99_s - alone_s:
        replicas[max(SERVICES, key=wait)] += 1
    parts = {
        name: Part(
            replicas[name],
            load[name] * core_s[name] / (replicas[name] * demand.cores),
            wait(name),
            figures.memory_mib[name],
        )
        for name in SERVICES
    }
    rows_gib = demand.gallery * (4 * figures.embedding_dim + ROW_BYTES_BESIDE_VECTOR) / 2**30
    return Plan(
        parts,
        alone_s + sum(part.wait_p99_s for part in parts.values()),
        rows_gib / MILVUS_FULL,
        2 * rows_gib / MILVUS_FULL,
        sum(replicas.values()) * demand.cores,
        sum(part.replicas * part.memory_mib for part in parts.values()) / 1024,
    )


def erlang_c(servers: int, erlangs: float) -> float:
    """Share of calls that wait in a queue with so many servers and an offered load of `erlangs` (below `servers`)."""
    blocked = 1.0  # Erlang's B by its recursion over the servers
    for count in range(1, servers + 1):
        blocked = erlangs * blocked / (count + erlangs * blocked)
    busy = erlangs / servers
    return blocked / (1 - busy + busy * blocked)


def wait_p99_s(per_second: float, seconds: float, servers: int) -> float:
    """Seconds of waiting that 99 % of calls do not exceed, of `per_second` calls that take `seconds` each on average."""
    if per_second == 0:
        return 0.0
    waits = erlang_c(servers, per_second * seconds)
    return max(0.0, math.log(waits / PERCENT) / (servers / seconds - per_second))


def _check(demand: Demand) -> None:
    wrong = {
        "qps": not (0 < demand.qps <= 1e6),
        "gallery": not (0 <= demand.gallery <= 1e10),
        "p99": not (0 < demand.p99_s <= 600),
        "cache-hits": not (0 <= demand.cache_hits < 1),
        "cores": not (1 <= demand.cores <= 256),
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise InvalidInput(f"--{option} is out of its range", metadata={"option": option})
