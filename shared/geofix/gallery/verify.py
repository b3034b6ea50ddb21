"""Verifies a gallery version: every row is what was written and where it belongs, and search finds what numpy finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.errors import MismatchError, Reason
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.contents import ReadRow
from geofix.gallery.layout import GalleryInfo, State
from geofix.gallery.versions import Summary

PAGE = 1_000
SAMPLE_CELLS, SAMPLE_K = 16, 10
"""Sample queries: one into each of so many cells."""
TOLERANCE = 1e-4


@dataclass
class _Tally:
    count: int = 0
    digest: int = 0
    cells: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    """Hashes of the ids, 8 bytes a row."""


@dataclass
class _Sample:
    """A query into the cell of a row of a partition's first page, and what an exact search finds there: cosines, best first."""

    query: NDArray[np.float32]
    cell: int = -1
    best: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def see(self, page: list[ReadRow], rng: np.random.Generator) -> None:
        if self.cell < 0:
            self.cell = int(rng.choice([read.row.cell_id for read in page]))
        mine = [read.row.embedding for read in page if read.row.cell_id == self.cell]
        if mine:
            self.best = np.sort(np.concatenate([self.best, np.stack(mine) @ self.query]))[::-1][:SAMPLE_K]


def verify(
    admin: GalleryAdmin, name: str, bundle: Bundle, progress: Callable[[int], None] = lambda _rows: None
) -> GalleryInfo:
    """Read a whole version, check it, and mark it as verified; a version that is verified already is only read and compared.

    Raises:
        MismatchError: GALLERY_UNFINISHED; an `add` did not finish, a row is damaged or misplaced, or a search misses.
    """
    info = next((each for each in admin.versions()[0] if each.name == name), None)
    if info is None or info.model_version != bundle.version:
        info = admin.begin_add(name, "verify")  # says what is wrong with it
    if info.unfinished:
        raise _unfinished(name, f"{len(info.unfinished)} runs of `geofix gallery add` did not finish: run them again")
    main, aside = _Tally(), _Tally()
    rng = np.random.default_rng(0)
    samples: list[_Sample] = []
    for partition in rng.permutation(info.partitions).tolist():
        sample = _Sample(_unit(rng, info.embedding_dim)) if len(samples) < SAMPLE_CELLS else None
        for page in _read(admin, info, bundle, main, partition=partition, progress=progress):
            if sample is not None:
                sample.see(page, rng)
        if sample is not None and sample.cell >= 0:
            samples.append(sample)
    if info.feature_dim and not info.joined:
        for _ in _read(admin, info, bundle, aside, set_aside=True, progress=progress):
            pass
    for tally in (main, aside):
        if tally.wrong:
            raise _unfinished(
                name, f"{len(tally.wrong)} rows are damaged or in the wrong place, such as {tally.wrong[0]}"
            )
    if main.count == 0:
        raise _unfinished(name, "it holds no image")
    _check_twice(admin, info, main.ids)
    _search(admin, info, samples)
    summary = Summary(
        main.count, aside.count, len(main.cells | aside.cells), f"{main.digest:016x}", f"{aside.digest:016x}"
    )
    if info.state is State.VERIFIED and (main.count, summary.digest) != (info.images, info.digest):
        raise _unfinished(name, f"it holds {main.count} images of {info.images}, or others than were verified")
    return admin.seal(name, summary)


def _read(
    admin: GalleryAdmin,
    info: GalleryInfo,
    bundle: Bundle,
    tally: _Tally,
    *,
    partition: int = 0,
    set_aside: bool = False,
    progress: Callable[[int], None],
) -> Iterator[list[ReadRow]]:
    """Read the pages of a partition, or of those set aside, check and count their rows, and hand them on."""
    for page in _pages(admin, info, set_aside=set_aside, partition=partition):
        where: list[int] = bundle.cells.assign([r.row.lat for r in page], [r.row.lon for r in page]).tolist()
        for read, cell in zip(page, where, strict=True):
            row = read.row
            tally.count += 1
            tally.digest ^= row.digest
            tally.cells.add(row.cell_id)
            misplaced = not set_aside and row.cell_id % info.partitions != partition
            if not read.intact or misplaced or (row.cell_id != cell and info.feature_dim):
                tally.wrong.append(row.id)
        tally.ids.append(_hashes(page))
        progress(len(page))
        yield page


def _pages(
    admin: GalleryAdmin, info: GalleryInfo, *, set_aside: bool, partition: int, vectors: bool = True
) -> Iterator[list[ReadRow]]:
    after: str | None = ""
    while after is not None:
        page = admin.read(info.name, set_aside=set_aside, partition=partition, after=after, limit=PAGE, vectors=vectors)
        if page:
            yield page
        after = page[-1].row.id if len(page) == PAGE else None


def _hashes(page: list[ReadRow]) -> NDArray[np.int64]:
    return np.fromiter((hash(read.row.id) for read in page), np.int64, len(page))


def _check_twice(admin: GalleryAdmin, info: GalleryInfo, ids: list[NDArray[np.int64]]) -> None:
    """No image may lie in two partitions: Milvus keeps an id apart only within one."""
    together = np.sort(np.concatenate(ids))
    twice = np.unique(together[1:][together[1:] == together[:-1]])
    if not len(twice):
        return
    found = [
        read.row
        for partition in range(info.partitions)
        for page in _pages(admin, info, set_aside=False, partition=partition, vectors=False)
        for read, hashed in zip(page, _hashes(page), strict=True)
        if hashed == twice[0]
    ]
    where = " and ".join(f"{row.lat:.5f}, {row.lon:.5f}" for row in found)
    raise _unfinished(
        info.name,
        f"{len(twice)} images are there twice, such as {found[0].id if found else 'one'} at {where}: runs of `geofix gallery "
        "add` that went on at the same time have put them in at different places. Delete the version, and add to a new one "
        "with one run after the other",
    )


def _search(admin: GalleryAdmin, info: GalleryInfo, samples: list[_Sample]) -> None:
    for sample in samples:
        hits = admin.search(info.name, [(sample.query, (sample.cell,), SAMPLE_K)])[0]
        found = np.array([hit.similarity for hit in hits])
        if len(found) != len(sample.best) or np.abs(found - sample.best).max() > TOLERANCE:
            raise _unfinished(info.name, f"a search in cell {sample.cell} does not find what an exact search finds")


def _unit(rng: np.random.Generator, dim: int) -> NDArray[np.float32]:
    vector = rng.normal(size=dim).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def _unfinished(name: str, what: str) -> MismatchError:
    return MismatchError(f"{name}: {what}", Reason.GALLERY_UNFINISHED, {"gallery_version": name})
