"""Verifies a gallery version: every row is what was written and where it belongs, and search finds what numpy finds."""

from __future__ import annotations

from collections.abc import Callable
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
SAMPLE_CELLS, SAMPLE_K, SAMPLE_ROWS = 16, 10, 50_000
"""Sample queries: one into each of so many cells of at most so many rows."""
TOLERANCE = 1e-4


@dataclass
class _Tally:
    count: int = 0
    digest: int = 0
    cells: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


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
    samples: dict[int, list[ReadRow]] = {}
    for partition in rng.permutation(info.partitions).tolist():
        rows = _read(admin, info, bundle, main, partition=partition, progress=progress)
        if rows and len(samples) < SAMPLE_CELLS:
            cell = int(rng.choice([row.row.cell_id for row in rows]))
            samples[cell] = [row for row in rows if row.row.cell_id == cell]
    if info.feature_dim and not info.joined:
        _read(admin, info, bundle, aside, set_aside=True, progress=progress)
    for tally in (main, aside):
        if tally.wrong:
            raise _unfinished(
                name, f"{len(tally.wrong)} rows are damaged or in the wrong place, such as {tally.wrong[0]}"
            )
    if main.count == 0:
        raise _unfinished(name, "it holds no image")
    _search(admin, info, samples, rng)
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
) -> list[ReadRow]:
    kept: list[ReadRow] = []
    after = ""
    while True:
        page = admin.read(info.name, set_aside=set_aside, partition=partition, after=after, limit=PAGE)
        where: list[int] = bundle.cells.assign([r.row.lat for r in page], [r.row.lon for r in page]).tolist()
        for read, cell in zip(page, where, strict=True):
            row = read.row
            tally.count += 1
            tally.digest ^= row.digest
            tally.cells.add(row.cell_id)
            misplaced = not set_aside and row.cell_id % info.partitions != partition
            if not read.intact or misplaced or (row.cell_id != cell and info.feature_dim):
                tally.wrong.append(row.id)
        progress(len(page))
        if len(kept) < SAMPLE_ROWS:
            kept += page
        if len(page) < PAGE:
            return kept if len(kept) < SAMPLE_ROWS else []
        after = page[-1].row.id


def _search(
    admin: GalleryAdmin, info: GalleryInfo, samples: dict[int, list[ReadRow]], rng: np.random.Generator
) -> None:
    for cell, rows in samples.items():
        vectors: NDArray[np.float32] = np.stack([read.row.embedding for read in rows])
        query = rng.normal(size=info.embedding_dim).astype(np.float32)
        query /= np.float32(np.linalg.norm(query))
        expected = np.sort(vectors @ query)[::-1][:SAMPLE_K]
        found = np.array([hit.similarity for hit in admin.search(info.name, [(query, (cell,), SAMPLE_K)])[0]])
        if len(found) != len(expected) or np.abs(found - expected).max() > TOLERANCE:
            raise _unfinished(info.name, f"a search in cell {cell} does not find what an exact search finds")


def _unfinished(name: str, what: str) -> MismatchError:
    return MismatchError(f"{name}: {what}", Reason.GALLERY_UNFINISHED, {"gallery_version": name})
