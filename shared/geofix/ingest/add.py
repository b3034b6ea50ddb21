"""`geofix gallery add` with the plain engine: threads that read and decode, embed, and write, at the same time."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import ImageRow
from geofix.ingest.claims import Claims, OwnClaims
from geofix.ingest.embed import Embeds
from geofix.ingest.items import Item, Skipped, Why
from geofix.ingest.near import NearDuplicates
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from geofix.ingest.stages import Loaded, Prepared, Wanted, bad_vector, load, make_rows, prepare_image
from geofix.ingest.writer import Writer, patiently

A = TypeVar("A")
B = TypeVar("B")

PAGE = 1_000
VECTORS = 32
"""Items that bring vectors, embedded together; no service takes more by default."""
LOOKED_UP = 256
"""Images looked up in the gallery at a time."""
SAME_PLACE_DEG = 1e-6
"""Places closer than this, about 10 cm, are one."""
PATIENCE_S = 600.0


@dataclass(frozen=True)
class AddOptions:
    """How to add.

    Attributes:
        near_bits: skip images whose perceptual hash differs in no more bits from one that is there; None: keep them.
        patience_s: how long to wait for a database that is away.
    """

    near_bits: int | None = None
    patience_s: float = PATIENCE_S


def job_of(source: Source) -> str:
    """The name of a run over a source: the same for the same source."""
    return hashlib.sha256(str(source.path.resolve()).encode()).hexdigest()[:16]


class Adder:
    """Adds a source to a version that is being filled.

    Args:
        admin: of the gallery.
        bundle: that the gallery is for.
        embeds: makes the vectors.
        options: how to add.
        say: a line for people.
        progress: called with the report so far, from time to time.
        claims: where others add to the version at the same time, what they deal with; default: nobody does.
    """

    def __init__(
        self,
        admin: GalleryAdmin,
        bundle: Bundle,
        embeds: Embeds,
        options: AddOptions = AddOptions(),
        say: Callable[[str], None] = lambda _line: None,
        progress: Callable[[Report], None] = lambda _report: None,
        claims: Claims | None = None,
    ) -> None:
        self._admin, self._bundle, self._embeds, self._options = admin, bundle, embeds, options
        self._say, self._progress = say, progress
        self._lock = threading.Lock()
        self._report = Report()
        self._claims = claims or OwnClaims()

    def run(self, version: str, source: Source) -> Report:
        """Add everything that is not there yet; returns when the database has acknowledged all of it.

        Raises:
            GeofixError: the source or the version cannot be used, or a part failed; what was acknowledged stays, and the next run
                goes on there.
        """
        items = source.items()
        job = job_of(source)
        info = self._wait(lambda: self._admin.begin_add(version, job))
        self.fill(info, items)
        self._wait(lambda: self._admin.finish_add(version, job, self._report.added))
        return self._report

    def fill(self, info: GalleryInfo, items: Iterable[Item | Skipped]) -> Report:
        """Add items to a version for which a run has begun; see `run`."""
        started = time.perf_counter()
        self._report.version = info.name
        near = self._known_hashes(info) if self._options.near_bits is not None else None
        writer = Writer(self._admin, info, self._written, self._options.patience_s, self._say)
        try:
            with ThreadPoolExecutor(self._embeds.workers, "embed") as pool:
                batches = self._batches(self._prepared(items, info, near))
                embedded = in_order(lambda batch: self._embed(batch, info), batches, pool, 2 * self._embeds.workers)
                for rows in embedded:
                    writer.put(rows)
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        self._report.seconds = time.perf_counter() - started
        return self._report

    def _prepared(
        self, items: Iterable[Item | Skipped], info: GalleryInfo, near: NearDuplicates | None
    ) -> Iterator[Prepared]:
        """What has to be embedded, decoded ahead by a thread of its own."""
        ready: queue.Queue[Prepared | BaseException | None] = queue.Queue(4 * self._embeds.batch * self._embeds.workers)
        stop = threading.Event()

        def feed() -> None:
            end: BaseException | None = None
            try:
                for prepared in self._decoded(items, info, near):
                    ready.put(prepared)
                    if stop.is_set():
                        return
            except BaseException as error:  # handed to the thread that embeds
                end = error
            ready.put(end)

        thread = threading.Thread(target=feed, name="gallery-feed", daemon=True)
        thread.start()
        try:
            while (found := ready.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            stop.set()
            while thread.is_alive():  # it may wait for room
                try:
                    ready.get(timeout=0.1)
                except queue.Empty:
                    continue

    def _decoded(
        self, items: Iterable[Item | Skipped], info: GalleryInfo, near: NearDuplicates | None
    ) -> Iterator[Prepared]:
        preprocessing = self._bundle.manifest.preprocessing if self._embeds.wants_pixels else None
        wanted = Wanted(preprocessing, info.thumbnails, near is not None)
        threads = max(2, self._embeds.workers)
        with ThreadPoolExecutor(threads, "read") as reading, ThreadPoolExecutor(threads, "decode") as decoding:
            loaded = in_order(lambda i: i if isinstance(i, Skipped) else load(i), items, reading, 2 * LOOKED_UP)
            fresh = self._fresh(loaded, info)
            for prepared in in_order(lambda i: prepare_image(i, wanted), fresh, decoding, 4 * threads):
                if isinstance(prepared, Skipped):
                    self._skip(prepared)
                    continue
                if near is not None and prepared.phash is not None:
                    twin = near.find(prepared.phash)
                    if twin is not None:
                        self._skip(Skipped(prepared.loaded.item.name, Why.NEAR_DUPLICATE, f"of {twin}"))
                        continue
                    near.remember(prepared.phash, prepared.loaded.item.name)
                yield prepared

    def _fresh(self, loaded: Iterable[Loaded | Skipped], info: GalleryInfo) -> Iterator[Loaded]:
        """Those that are not in the gallery; what is there in another place is reported, and the first one kept."""
        manifest = self._bundle.manifest
        for batch in chunks(loaded, LOOKED_UP):
            new: list[Loaded] = []
            for each in batch:
                wrong = (
                    each
                    if isinstance(each, Skipped)
                    else bad_vector(each.item, manifest.feature_dim, manifest.embedding_dim)
                )
                if wrong is not None:
                    self._skip(wrong)
                elif isinstance(each, Loaded):
                    new.append(each)
            known = self._claims.claim({each.id: each.place for each in reversed(new)})  # of two, the first
            ids = list({each.id: None for each in new if each.id not in known})
            stored = self._wait(partial(self._admin.find, info.name, ids)) if ids else {}
            self._claims.release(stored)
            for each in new:
                here = known.get(each.id)
                there = stored.get(each.id)
                first = here or ((there.lat, there.lon) if there is not None else None)
                if first is None:
                    known[each.id] = each.place
                    yield each
                elif not _same(first, each.place):
                    detail = f"{first[0]:.5f}, {first[1]:.5f} is kept, {each.place[0]:.5f}, {each.place[1]:.5f} is not"
                    self._skip(Skipped(each.item.name, Why.TWO_PLACES, detail))
                elif here is not None:
                    self._skip(Skipped(each.item.name, Why.TWICE))
                else:
                    with self._lock:
                        self._report.already_there += 1
            if len(stored) == len(ids):  # nothing is written of which the writer would tell
                self._progress(self._report)

    def _batches(self, images: Iterable[Prepared]) -> Iterator[list[Prepared]]:
        """Batches of one kind each: images, features, or embeddings."""
        waiting: dict[str, list[Prepared]] = {}
        for image in images:
            item = image.loaded.item
            kind = "feature" if item.feature is not None else "image" if item.embedding is None else "embedding"
            batch = waiting.setdefault(kind, [])
            batch.append(image)
            if len(batch) == (self._embeds.batch if kind == "image" else VECTORS):
                yield waiting.pop(kind)
        yield from waiting.values()

    def _embed(self, batch: list[Prepared], info: GalleryInfo) -> list[ImageRow]:
        features: list[NDArray[np.float32] | None]
        first = batch[0].loaded.item
        if first.embedding is not None and first.feature is None:
            features, embeddings = [None] * len(batch), np.stack([_vector(b.loaded.item.embedding) for b in batch])
        else:
            if first.feature is not None:
                made = np.stack([_vector(b.loaded.item.feature) for b in batch])
            else:
                made = self._wait(lambda: self._embeds.features(batch))
            features, embeddings = list(made), self._wait(lambda: self._embeds.embeddings(made))
        return make_rows(batch, features, embeddings, self._bundle.cells, info.set_aside_share)

    def _known_hashes(self, info: GalleryInfo) -> NearDuplicates:
        """The perceptual hashes of what is in the version already."""
        near = NearDuplicates(self._options.near_bits or 0)
        places = [(False, partition) for partition in range(info.partitions)] + [(True, 0)] * (info.feature_dim > 0)
        for set_aside, partition in places:
            after: str | None = ""
            while after is not None:
                read = partial(
                    self._admin.read, info.name, set_aside=set_aside, partition=partition, after=after, vectors=False
                )
                page = self._wait(read)
                for row in (each.row for each in page if each.row.phash is not None):
                    near.remember(row.phash or 0, row.fields.get("file", row.id))
                after = page[-1].row.id if len(page) == PAGE else None
        return near

    def _written(self, rows: list[ImageRow]) -> None:
        with self._lock:
            self._report.added += len(rows)
            self._report.set_aside += sum(row.feature is not None for row in rows)
        self._claims.release(row.id for row in rows)
        self._progress(self._report)

    def _skip(self, what: Skipped) -> None:
        with self._lock:
            self._report.skip(what)

    def _wait(self, work: Callable[[], B]) -> B:
        return patiently(work, self._options.patience_s, self._say)


def in_order(function: Callable[[A], B], items: Iterable[A], pool: ThreadPoolExecutor, ahead: int) -> Iterator[B]:
    """The function's results in the order of the items; at most `ahead` of them are begun before the first is taken."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """The items in lists of `size`; the last may be shorter."""
    batch: list[A] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) <= SAME_PLACE_DEG for a, b in zip(one, other, strict=True))


def _vector(vector: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert vector is not None
    return vector
