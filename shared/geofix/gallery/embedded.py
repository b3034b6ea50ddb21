"""Searches in the Milvus Lite of this process by its engine's own interface: over its gRPC server each takes 3 to 6 ms more.

Before a search the engine walks over every row of the partitions in Python, to leave out what is deleted or written twice, and
it reads the whole row of every hit, vector and all. A sealed version of the gallery has nothing of either kind; there, each
segment's own index is asked for the rows of the cells, and only what a hit shows is read: in a fifth to a third of the time.
What else the rows must fulfil is for the engine's own filter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from geofix.gallery.calls import Call, Row, SearchChannel
from geofix.gallery.layout import METRIC, OUTPUT_FIELDS

_VECTOR = "embedding"
_PARTS = ("_read_snapshot", "_memtable", "_compile_filter", "_indexed_filter_plan")
"""Of the engine's collection, as of Milvus Lite 3.2. Where one is gone, the engine searches by itself, more slowly."""


class EmbeddedSearches(SearchChannel):
    """As `SearchChannel`, whose channel it keeps for writes.

    Args:
        uri: of Milvus Lite's server.
        database: the engine behind it, a `milvus_lite.MilvusLite`.
    """

    def __init__(self, uri: str, database: Any) -> None:
        super().__init__(uri)
        self._database = database
        self._distinct: dict[str, tuple[tuple[str, ...], bool]] = {}

    def search(self, call: Call, timeout_s: float) -> list[list[Row]]:  # noqa: ARG002  # nothing can interrupt the engine
        """As `SearchChannel.search`, but the time-out does not end it."""
        from milvus_lite import MilvusLiteError
        from pymilvus import MilvusException

        try:
            collection = self._database.get_collection(call.collection)
            segments = self._segments(call.collection, collection)
            return _by_segment(collection, segments, call) if segments else _by_engine(collection, call)
        except MilvusLiteError as error:
            raise MilvusException(message=f"{type(error).__name__}: {error}") from error

    async def search_async(self, call: Call, timeout_s: float) -> list[list[Row]]:
        """As `search`, in a thread.

        Raises:
            TimeoutError: it took longer; the thread goes on to its end.
        """
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(self.search, call, timeout_s)

    def _segments(self, name: str, collection: Any) -> Sequence[Any]:
        """Those of a collection, if each has an index and each of its rows is one to search; else none."""
        # What is still in memory comes first: what is written to a segment after that is in the snapshot.
        if any(not hasattr(collection, part) for part in _PARTS) or collection._memtable.size():
            return ()
        segments, deleted = collection._read_snapshot()
        if len(deleted) or any(_VECTOR not in segment.indexes for segment in segments):
            return ()
        # A segment's file never changes, so its rows are counted once.
        files = tuple(segment.file_path for segment in segments)
        known, distinct = self._distinct.get(name, ((), False))
        if known != files:
            ids = {id_ for segment in segments for id_ in segment.pks}
            distinct = len(ids) == sum(segment.num_rows for segment in segments)
            self._distinct[name] = (files, distinct)
        return tuple(segments) if distinct else ()


def _by_engine(collection: Any, call: Call) -> list[list[Row]]:
    found = collection.search(
        list(call.vectors),
        top_k=call.limit,
        metric_type=METRIC,
        partition_names=list(call.partitions) or None,
        expr=call.expression or None,
        output_fields=list(OUTPUT_FIELDS),
    )
    return [[_row(hit) for hit in hits] for hits in found]


def _row(hit: Mapping[str, Any]) -> Row:
    entity = hit["entity"]
    return Row(hit["id"], hit["distance"], entity["cell_id"], entity["lat"], entity["lon"], entity["payload"])


def _by_segment(collection: Any, segments: Sequence[Any], call: Call) -> list[list[Row]]:
    from milvus_lite.search.indexed_filter import evaluate_segment_filter

    compiled = collection._compile_filter(call.filter) if call.filter else None
    plan = collection._indexed_filter_plan(compiled)
    cells = np.array(call.cells)
    found: list[list[tuple[float, int, int]]] = [[] for _ in call.vectors]
    for number, segment in enumerate(segments):
        if call.partitions and segment.partition not in call.partitions:
            continue
        # The engine would make a list of all the cells for each segment: most of the time of a search.
        mask = np.isin(segment.table.column("cell_id").to_numpy(), cells) if call.cells else None
        if compiled is not None:
            fulfil = evaluate_segment_filter(segment, compiled, plan)
            mask = fulfil if mask is None else mask & fulfil
        most = min(call.limit, segment.num_rows if mask is None else int(np.count_nonzero(mask)))
        if not most:
            continue
        rows, distances = segment.indexes[_VECTOR].search(call.vectors, most, mask)
        for hits, own_rows, own_distances in zip(found, rows.tolist(), distances.tolist(), strict=True):
            hits.extend(zip(own_distances, repeat(number), own_rows, strict=False))
    return [_rows(segments, sorted(hits)[: call.limit]) for hits in found]


def _rows(segments: Sequence[Any], hits: Sequence[tuple[float, int, int]]) -> list[Row]:
    """Hits as (distance, number of the segment, row in it); the engine's distance of an inner product is its negative."""
    wanted: dict[int, list[int]] = {}
    for _, number, row in hits:
        wanted.setdefault(number, []).append(row)
    fields = {
        number: zip(
            *(segments[number].table.column(name).take(rows).to_pylist() for name in OUTPUT_FIELDS), strict=True
        )
        for number, rows in wanted.items()
    }
    return [Row(segments[number].pks[row], -distance, *next(fields[number])) for distance, number, row in hits]
