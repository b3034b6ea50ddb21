"""Loads a bundle's own gallery into Milvus, so that a death at any moment is repaired by the next run.

The rows go into a version of their own; only when all of them are counted there is it verified and promoted. A version that is
not full gets the rows that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import xor

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import CALIBRATION, GALLERY, Bundle
from geofix.errors import MismatchError, Reason
from geofix.gallery.admin import DirectAdmin, GalleryAdmin
from geofix.gallery.layout import ID_BYTES, PAYLOAD_BYTES, GalleryInfo, State
from geofix.gallery.rows import UNIT_TOLERANCE, ImageRow
from geofix.gallery.store import Store
from geofix.gallery.versions import OWN_JOB, Summary

INSERT_BYTES = 4 * 1024 * 1024
"""Of the embeddings of one insert: far below every message limit of Milvus."""

Progress = Callable[[int, int], None]
"""Called with (rows loaded, rows in all)."""


def load_bundle_gallery(
    bundle: Bundle, uri: str, progress: Progress | None = None, token: str = "", *, create: bool = True
) -> GalleryInfo:
    """Load the bundle's own gallery and make it live, where no version of this bundle is live. Returns what is live.

    One loader at a time a server; on Milvus Lite the directory's lock sees to it. `create` makes that directory if it is absent.

    Raises:
        ConfigurationError: the URI is neither a server's nor an existing directory's (unless `create`).
        MismatchError: GALLERY_INVALID; a row of the gallery file cannot be right.
        Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached, or the Lite directory is open elsewhere.
    """
    with Store(uri, token, create=create) as store:
        return make_live(DirectAdmin(store, bundle), bundle, progress)


def make_live(admin: DirectAdmin, bundle: Bundle, progress: Progress | None = None) -> GalleryInfo:
    """As `load_bundle_gallery`, in a Milvus that is open."""
    live = admin.live()
    info = admin.store.describe_or_none(live) if live and live != bundle.gallery_version else None
    if info is not None and info.model_version == bundle.version and info.state is State.VERIFIED:
        return info  # a version that somebody built and promoted
    own = fill_own(admin, bundle, progress)
    return admin.promote(own.name, own_calibration(bundle))


def own_calibration(bundle: Bundle) -> str:
    """The JSON of the bundle's calibration, which belongs to the bundle's own gallery; empty if there is none."""
    return bundle.path(CALIBRATION).read_text() if CALIBRATION in bundle.manifest.files else ""


def fill_own(admin: GalleryAdmin, bundle: Bundle, progress: Progress | None = None) -> GalleryInfo:
    """The version of the bundle's own gallery, complete and verified; does nothing where it is."""
    import pyarrow.parquet as pq

    info = admin.create("", pq.read_metadata(bundle.path(GALLERY)).num_rows)
    if info.state is not State.FILLING:
        return info
    rows = _Rows(bundle)
    digest, done = 0, 0
    say = progress or (lambda _done, _total: None)
    say(0, len(rows))
    for batch in rows.batches(info.partitions):
        admin.insert(info.name, batch)
        digest = reduce(xor, (row.digest for row in batch), digest)
        done += len(batch)
        say(done, len(rows))
    admin.finish_add(info.name, OWN_JOB)
    return admin.seal(info.name, Summary(len(rows), 0, len(np.unique(rows.cell_id)), f"{digest:016x}", ""))


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

    def batches(self, partitions: int) -> Iterator[list[ImageRow]]:
        """Rows to insert together, of one partition each; every row once."""
        partition = self.cell_id % partitions
        together = max(1, INSERT_BYTES // (4 * self.embedding.shape[1]))
        for index in range(partitions):
            rows = np.flatnonzero(partition == index)
            for start in range(0, len(rows), together):
                yield [self._row(int(row)) for row in rows[start : start + together]]

    def _row(self, row: int) -> ImageRow:
        return ImageRow(
            id=self._ids[row],
            lat=float(self._lat[row]),
            lon=float(self._lon[row]),
            cell_id=int(self.cell_id[row]),
            embedding=self.embedding[row].astype(np.float32),
            picture=self._pictures[row] or "",
            attribution=self._attributions[row] or "",
        )

    def _check(self, cell_count: int) -> None:
        if not self._ids:
            raise _invalid("it has no rows")
        if len(set(self._ids)) != len(self._ids):
            raise _invalid("an id is repeated")
        if any(not 0 < len(name.encode()) <= ID_BYTES for name in self._ids):
            raise _invalid(f"ids must have 1 to {ID_BYTES} bytes")
        if self.cell_id.min() < 0 or self.cell_id.max() >= cell_count:
            raise _invalid(f"a cell_id is not one of the bundle's {cell_count} cells")
        if not (np.all(np.abs(self._lat) <= 90) and np.all(np.abs(self._lon) <= 180)):
            raise _invalid("a place is not within ±90, ±180 degrees")
        for start in range(0, len(self), 65_536):
            norms = np.linalg.norm(self.embedding[start : start + 65_536].astype(np.float32), axis=1)
            if not np.all(np.abs(norms - 1) <= UNIT_TOLERANCE):  # also false for a value that is not finite
                raise _invalid("an embedding is not a unit vector")
        for row, said in enumerate(zip(self._pictures, self._attributions, strict=True)):
            if (
                sum(len((text or "").encode()) for text in said) > PAYLOAD_BYTES // 2
            ):  # in JSON a character may take more
                raise _invalid(f"row {row}: picture and attribution take more than {PAYLOAD_BYTES // 2} bytes")


def _invalid(what: str) -> MismatchError:
    return MismatchError(f"{GALLERY} cannot be loaded: {what}", Reason.GALLERY_INVALID)
