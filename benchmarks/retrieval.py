"""Searches inside cells: Milvus Lite and a Milvus server through the retrieval service, and what one would pick instead.

Prints a Markdown table (latency, queries a second at 1, 4 and 16 clients, recall against numpy, time to build, disk, memory) and
the ratios that the service is held to. `--small` runs all of it on little data.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix.gallery.admin import DirectAdmin
from geofix.gallery.calls import Call
from geofix.gallery.layout import GalleryInfo, partition_names
from geofix.gallery.store import Store
from processes import resident_mb
from retrieval_data import Data, K, Query, recall
from retrieval_libraries import Faiss, Lance, Library, Numpy, Searches, Usearch, size_of
from retrieval_milvus import PymilvusAlone, Service, fill, insert_rates, server, settle, write_bundle

CLIENTS = (4, 16)
CHECKED, WARM, TURNS = 50, 20, 4
"""Queries whose answers are compared, queries before the clock starts, and how often backends that are compared take turns."""
HEAD = (
    "| backend | images | cells | p50 ms | p90 | p99 | q/s, 1 client | 4 | 16 | recall@10 | build s | disk MB | memory MB |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def closed_loop(
    searches: Searches, queries: Sequence[Query], clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Clients that ask one query after another: queries a second, and the milliseconds of each."""
    times: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def run(client: int) -> None:
        position = client * len(queries) // clients
        while (began := time.perf_counter()) < end:
            searches.search(queries[position % len(queries)])
            times[client].append((time.perf_counter() - began) * 1000)
            position += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [each for some in times for each in some]
    return len(taken) / (time.perf_counter() - began), taken


@dataclass(frozen=True)
class Backend:
    """What is searched, and what it took to get there; None where that is not its own.

    Args:
        disk: bytes.
        memory: MB resident.
    """

    name: str
    searches: Searches
    build_s: float | None = None
    disk: int | None = None
    memory: float | None = None


class Table:
    """Measures searches and prints a line of the table for each.

    Args:
        seconds: for each number of clients.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        print(HEAD)

    def measure(self, data: Data, *backends: Backend) -> None:
        """A line for one cell and one for five; several backends take turns, for a machine's speed drifts."""
        for cells in (1, 5):
            queries = data.queries(2_000, cells, seed=cells)
            checked = data.queries(CHECKED, cells, seed=100 + cells)
            exact = [data.exact(query) for query in checked]
            found = [recall([backend.searches.search(query) for query in checked], exact) for backend in backends]
            for backend in backends:
                for query in queries[-WARM:]:
                    backend.searches.search(query)
            times: list[list[float]] = [[] for _ in backends]
            rates: list[list[tuple[float, ...]]] = [[] for _ in backends]
            turns = TURNS if len(backends) > 1 else 1
            for turn in range(turns):
                asked = queries[turn * len(queries) // turns :] + queries[: turn * len(queries) // turns]
                for index, backend in enumerate(backends):
                    rate, taken = closed_loop(backend.searches, asked, 1, 2 * self._seconds / turns)
                    loops = [
                        closed_loop(backend.searches, asked, clients, self._seconds / turns) for clients in CLIENTS
                    ]
                    times[index] += taken
                    rates[index].append((rate, *(loop[0] for loop in loops)))
            for index, backend in enumerate(backends):
                self._print(backend, len(data), cells, times[index], np.mean(rates[index], axis=0), found[index])

    @staticmethod
    def _print(
        backend: Backend, images: int, cells: int, times: list[float], rates: NDArray[np.float64], found: float
    ) -> None:
        shown = " | ".join(f"{value:.2f}" for value in np.percentile(times, [50, 90, 99]))
        many = " | ".join(f"{value:,.0f}" for value in rates)
        mb = None if backend.disk is None else backend.disk / 1e6
        beside = " | ".join(
            "–" if value is None else f"{value:,.0f}" for value in (backend.build_s, mb, backend.memory)
        )
        print(f"| {backend.name} | {images:,} | {cells} | {shown} | {many} | {found:.4f} | {beside} |", flush=True)


def libraries(table: Table, data: Data, kinds: Sequence[Callable[[Data], Library]]) -> None:
    """The libraries, one after the other."""
    for kind in kinds:
        gc.collect()
        before, began = _own_memory(), time.perf_counter()
        library = kind(data)
        built = time.perf_counter() - began
        memory = max(0.0, _own_memory() - before)
        table.measure(data, Backend(library.name, library, built, library.disk, memory))
        library.close()


def lite(table: Table, data: Data, directory: Path, cells: int) -> None:
    """Milvus Lite inside the retrieval service."""
    bundle = write_bundle(directory / "bundle", cells, data.vectors.shape[1])
    uri = directory / "milvus.db"
    began = time.perf_counter()
    with Store(str(uri), create=True) as store:
        info = fill(DirectAdmin(store, bundle), "lite", data)
    built = time.perf_counter() - began
    service = Service(bundle, str(uri), directory)
    try:
        searching = service.searching(info.name)
        searching.search(data.queries(1, 1, 0)[0])
        memory = resident_mb(service.pid)
        table.measure(data, Backend("Milvus Lite, through the service", searching, built, size_of(uri), memory))
    finally:
        service.close()


def on_server(table: Table, sizes: Sequence[Data], directory: Path, given: str, cells: int, seconds: float) -> None:
    """A Milvus server: through the service, by pymilvus alone, and what one is of the other."""
    bundle = write_bundle(directory / "bundle", cells, sizes[0].vectors.shape[1])
    facts: list[str] = []
    with server(given, directory / "milvus") as (uri, pid, files), Store(uri) as store:
        ours, alone = insert_rates(store, bundle, sizes[-1], min(100_000, len(sizes[-1])))
        facts.append(
            f"rows a second inserted, server: geofix {ours:,.0f}, pymilvus alone {alone:,.0f}: ratio {ours / alone:.2f}"
        )
        searched: list[tuple[Data, GalleryInfo]] = []
        taken: list[tuple[float, int | None, float | None]] = []
        for data in sizes:
            used = size_of(files) if files else 0
            began = time.perf_counter()
            searched.append((data, fill(DirectAdmin(store, bundle), f"n{len(data)}", data)))
            built = time.perf_counter() - began
            taken.append((built, size_of(files) - used if files else None, resident_mb(pid) if pid else None))
        service = Service(bundle, uri, directory)
        facts.append(settle(pid))
        for (data, info), (built, disk, memory) in zip(searched, taken, strict=True):
            direct = PymilvusAlone(uri, info)
            through = Backend("Milvus server, through the service", service.searching(info.name), built, disk, memory)
            table.measure(data, through, Backend("Milvus server, pymilvus alone", direct))
            direct.close()
        facts += _ratios(service, uri, searched, seconds)
        facts.append(_processor_time(store, uri, *searched[-1]))
        service.close()
    print("\n" + "\n".join(f"- {fact}" for fact in facts))


def _ratios(service: Service, uri: str, searched: Sequence[tuple[Data, GalleryInfo]], seconds: float) -> list[str]:
    """Measured in turns, for a machine's speed drifts."""
    (small, few), (large, many) = searched[0], searched[-1]
    p50: dict[int, list[float]] = {len(small): [], len(large): []}
    rates: list[list[float]] = [[], []]
    direct = PymilvusAlone(uri, many)
    for turn in range(4):
        for data, info in ((small, few), (large, many)):
            _, times = closed_loop(service.searching(info.name), data.queries(2_000, 1, turn), 1, seconds)
            p50[len(data)].append(statistics.median(times))
        both: tuple[Searches, ...] = (service.searching(many.name), direct)
        for rate, searches in zip(rates, both, strict=True):
            rate.append(closed_loop(searches, large.queries(2_000, 1, turn), 16, seconds)[0])
    direct.close()
    low, high = statistics.median(p50[len(small)]), statistics.median(p50[len(large)])
    through, alone = statistics.median(rates[0]), statistics.median(rates[1])
    return [
        f"server, through the service, one cell, p50 at {len(large):,} ÷ at {len(small):,}: {high:.2f} ÷ {low:.2f} ms = "
        f"{high / low:.2f}",
        f"server, {len(large):,}, one cell, q/s at 16 clients, through the service ÷ pymilvus alone: {through:,.0f} ÷ "
        f"{alone:,.0f} = {through / alone:.2f}",
    ]


def _processor_time(store: Store, uri: str, data: Data, info: GalleryInfo) -> str:
    """What a search costs the process that asks, with pymilvus's client and with the call that the service makes."""
    direct = PymilvusAlone(uri, info)

    def lean(query: Query) -> None:
        where = partition_names(query.cells, info.partitions)
        call = Call(info.name, query.vector[None], K, query.cells, tuple(where))
        store.searches.search(call, 60)

    spent = []
    queries = data.queries(200, 1, 9)
    for search in (direct.search, lean):
        search(queries[0])
        began = time.process_time()
        for query in queries:
            search(query)
        spent.append((time.process_time() - began) / len(queries) * 1000)
    direct.close()
    return f"processor time of who asks, a search: pymilvus's client {spent[0]:.2f} ms, geofix's own call {spent[1]:.2f} ms"


def _own_memory() -> float:
    return resident_mb(int(Path("/proc/self").resolve().name))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=(100_000, 1_000_000), help="images, the fewer first")
    parser.add_argument("--cells", type=int, default=2_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number of clients")
    parser.add_argument(
        "--milvus", default="", metavar="URI", help="a server of yours, in place of a 2.3.5 started here"
    )
    parser.add_argument("--only", choices=("libraries", "lite", "server"), action="append", help="only these parts")
    parser.add_argument("--large-lite", action="store_true", help="Milvus Lite and usearch with the larger size too")
    parser.add_argument("--small", action="store_true", help="5,000 and 20,000 images, 0.3 s")
    options = parser.parse_args()
    if options.small:
        options.sizes, options.seconds = (5_000, 20_000), 0.3
    parts = options.only or ("libraries", "lite", "server")
    began = time.monotonic()
    sizes = [Data.random(rows, options.cells, options.dim) for rows in options.sizes]
    table = Table(options.seconds)
    with tempfile.TemporaryDirectory(prefix="geofix-retrieval-") as directory:
        for index, data in enumerate(sizes):
            both = index == 0 or options.large_lite
            if "libraries" in parts:
                libraries(table, data, [Numpy, Faiss, Lance, *([Usearch] if both else [])])
            if "lite" in parts and both:
                (home := Path(directory) / f"lite{index}").mkdir()
                lite(table, data, home, options.cells)
        if "server" in parts:
            (home := Path(directory) / "server").mkdir()
            on_server(table, sizes, home, options.milvus, options.cells, options.seconds)
    print(
        f"\n{options.cells:,} Zipf cells, {options.dim} dimensions, k = {K}, {(time.monotonic() - began) / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
