"""Loads a bundle's gallery into Milvus, so that a death at any moment is repaired by the next run.

The rows go into a collection of their own; only when all of them are counted there does the alias move to it. A collection that
is not full is dropped and loaded again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import GALLERY, Bundle
from geofix.errors import MismatchError, Reason
from geofix.gallery.layout import (
    ID_BYTES,
    METRIC,
    PAYLOAD_BYTES,
    GalleryInfo,
    partition_count,
    partition_name,
    schema,
)
from geofix.gallery.store import CALL_TIMEOUT_S, Store

INSERT_ROWS = 2_000
"""Rows of one insert: 2 MB at 256 dimensions, far below every message limit of Milvus."""
WRITE_TIMEOUT_S = 120.0

Progress = Callable[[int, int], None]
"""Called with (rows loaded, rows in all)."""


def load_bundle_gallery(
    bundle: Bundle, uri: str, progress: Progress | None = None, token: str = "", *, create: bool = True
) -> GalleryInfo:
    """Make the bundle's own gallery the live one; does nothing where it is. Returns what is live.

    One loader at a time a server; on Milvus Lite the directory's lock sees to it. `create` makes that directory if it is absent.

    Raises:
        ConfigurationError: the URI is neither a server's nor an existing directory's (unless `create`).
        MismatchError: GALLERY_INVALID; a row of the gallery file cannot be right.
        Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached, or the Lite directory is open elsewhere.
    """
    with Store(uri, token, create=create) as store:
        return _Loader(store, bundle, progress or (lambda _done, _total: None)).run()


class _Loader:
    def __init__(self, store: Store, bundle: Bundle, progress: Progress) -> None:
        self._store = store
        self._bundle = bundle
        self._progress = progress
        self._alias = bundle.gallery_alias

    def run(self) -> GalleryInfo:
        name = self._bundle.gallery_version
        live = self._store.resolve(self._alias)
        info = self._store.describe_or_none(name)
        if info is None or not self._complete(info):
            # Where the alias names a damaged collection it has to go first: Milvus drops nothing that an alias names.
            self._remove(name, unalias=live == name)
            live = None if live == name else live
            info = self._fill(name)
        if info.model_version != self._bundle.version:
            info = self._rename(info)
        if live != name:
            self._promote(name, live)
        return info

    def _complete(self, info: GalleryInfo) -> bool:
        if not self._indexed(info.name):
            return False
        self._store.load(info.name)
        return self._store.count(info.name) == info.images

    def _indexed(self, name: str) -> bool:
        with self._store.errors():
            return bool(self._store.client.list_indexes(name))

    def _remove(self, name: str, *, unalias: bool) -> None:
        client = self._store.client
        with self._store.errors():
            if unalias:
                client.drop_alias(self._alias, timeout=CALL_TIMEOUT_S)
            if client.has_collection(name, timeout=CALL_TIMEOUT_S):
                client.drop_collection(name, timeout=WRITE_TIMEOUT_S)

    def _fill(self, name: str) -> GalleryInfo:
        rows = _Rows(self._bundle)
        info = GalleryInfo(
            name=name,
            model_version=self._bundle.version,
            images=len(rows),
            cells=len(np.unique(rows.cell_id)),
            embedding_dim=self._bundle.manifest.embedding_dim,
            partitions=partition_count(len(rows)),
        )
        client = self._store.client
        with self._store.errors():
            client.create_collection(
                name,
                schema=schema(info.embedding_dim),
                properties=info.properties(),
                consistency_level="Bounded",
                timeout=WRITE_TIMEOUT_S,
            )
            for index in range(info.partitions):
                client.create_partition(name, partition_name(index, info.partitions), timeout=CALL_TIMEOUT_S)
            done = 0
            self._progress(0, info.images)
            for partition, batch in rows.batches(info.partitions):
                client.insert(name, batch, partition_name=partition, timeout=WRITE_TIMEOUT_S)
                done += len(batch)
                self._progress(done, info.images)
            client.flush(name, timeout=WRITE_TIMEOUT_S)
            index_params = client.prepare_index_params()
            index_params.add_index("embedding", index_type="FLAT", metric_type=METRIC)
            client.create_index(name, index_params, timeout=WRITE_TIMEOUT_S)
        self._store.load(name)
        counted = self._store.count(name)
        if counted != info.images:
            raise MismatchError(
                f"{name} holds {counted} rows after loading {info.images}: are ids repeated in {GALLERY}?",
                Reason.GALLERY_INVALID,
                {"gallery_version": name},
            )
        return info

    def _rename(self, info: GalleryInfo) -> GalleryInfo:
        """The same gallery now belongs to another version of the bundle, one that changed elsewhere."""
        renamed = dataclasses.replace(info, model_version=self._bundle.version)
        with self._store.errors():
            self._store.client.alter_collection_properties(
                info.name, properties=renamed.properties(), timeout=CALL_TIMEOUT_S
            )
        return renamed

    def _promote(self, name: str, live: str | None) -> None:
        client = self._store.client
        with self._store.errors():
            if live is None:
                client.create_alias(name, self._alias, timeout=CALL_TIMEOUT_S)
            else:
                client.alter_alias(name, self._alias, timeout=CALL_TIMEOUT_S)


class _Rows:
    """The gallery file in memory, checked."""

    def __init__(self, bundle: Bundle) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(bundle.path(GALLERY))
        dim = bundle.manifest.embedding_dim
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if flat.size != len(table) * dim:
            raise _invalid(f"its embeddings are not of {dim} values, as the bundle says")
        self.embedding: NDArray[np.float16] = flat.reshape(len(table), dim)
        self.cell_id: NDArray[np.int64] = table["cell_id"].to_numpy().astype(np.int64)
        self._lat, self._lon = (table[name].to_numpy().astype(float) for name in ("lat", "lon"))
        self._ids: list[str] = table["id"].to_pylist()
        self._pictures: list[str | None] = table["picture"].to_pylist()
        self._attributions: list[str | None] = table["attribution"].to_pylist()
        self._check(bundle.manifest.cell_count)

    def __len__(self) -> int:
        return len(self._ids)

    def batches(self, partitions: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """(partition, rows to insert into it), every row once."""
        partition = self.cell_id % partitions
        for index in range(partitions):
            rows = np.flatnonzero(partition == index)
            for start in range(0, len(rows), INSERT_ROWS):
                batch = [self._row(int(row)) for row in rows[start : start + INSERT_ROWS]]
                yield partition_name(index, partitions), batch

    def _row(self, row: int) -> dict[str, Any]:
        payload = {"picture": self._pictures[row] or "", "attribution": self._attributions[row] or ""}
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) > PAYLOAD_BYTES:
            raise _invalid(f"row {row}: picture and attribution take more than {PAYLOAD_BYTES} bytes")
        return {
            "id": self._ids[row],
            "cell_id": int(self.cell_id[row]),
            "embedding": self.embedding[row].astype(np.float32),
            "lat": float(self._lat[row]),
            "lon": float(self._lon[row]),
            "payload": text,
        }

    def _check(self, cell_count: int) -> None:
        if not self._ids:
            raise _invalid("it has no rows")
        if any(not 0 < len(name.encode()) <= ID_BYTES for name in self._ids):
            raise _invalid(f"ids must have 1 to {ID_BYTES} bytes")
        if len(set(self._ids)) != len(self._ids):
            raise _invalid("an id is repeated")
        if self.cell_id.min() < 0 or self.cell_id.max() >= cell_count:
            raise _invalid(f"a cell_id is not one of the bundle's {cell_count} cells")
        if not (np.all(np.abs(self._lat) <= 90) and np.all(np.abs(self._lon) <= 180)):
            raise _invalid("a place is not within ±90, ±180 degrees")
        for start in range(0, len(self), 65_536):
            norms = np.linalg.norm(self.embedding[start : start + 65_536].astype(np.float32), axis=1)
            if not np.all(np.abs(norms - 1) <= 0.01):  # also false for a value that is not finite
                raise _invalid("an embedding is not a unit vector")


def _invalid(what: str) -> MismatchError:
    return MismatchError(f"{GALLERY} cannot be loaded: {what}", Reason.GALLERY_INVALID)
