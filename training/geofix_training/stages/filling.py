"""An array on disk with a row for every image of a collection, filled by a network in shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix_training.data.images import Images
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.stages.work import Work

SHARD = 512
"""Rows between two marks of what is done."""
READ = 32
"""Rows decoded at a time."""
READERS = 4
"""Threads that decode them."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Filling:
    """What fills an array (rows, dim).

    Attributes:
        path: of the array, float16; a row whose image cannot be read is NaN, and is named in `unreadable.csv`.
        marks: folder for the marks of shards that are done; those are kept.
        dim: values a row.
        batch: images in one pass.
        run: the network, images (n, 3, h, w) to (n, dim).
    """

    path: Path
    marks: Path
    dim: int
    batch: int
    run: Run


def fill(work: Work, filling: Filling, processes: Processes, progress: Progress) -> None:
    """Fill the array; each process takes its share of the shards that are not marked as done."""
    config = work.experiment.backbone
    assert config is not None
    rows, path, marks = len(work.index), filling.path, filling.marks
    if processes.main and not path.exists():
        partial = path.with_suffix(".partial.npy")
        blank = np.lib.format.open_memmap(partial, "w+", np.float16, (rows, filling.dim))
        blank.flush()
        partial.replace(path)
        marks.mkdir(exist_ok=True)
    processes.wait()
    filled = np.lib.format.open_memmap(path, "r+")
    images = Images(work.index, config, work.unreadable)
    with ThreadPoolExecutor(READERS) as readers:
        for number, start in enumerate(range(0, rows, SHARD)):
            if number % processes.world != processes.rank or (marks / str(start)).exists():
                continue
            end = min(start + SHARD, rows)
            filled[start:end] = np.nan
            for first in range(start, end, READ):
                found = list(readers.map(images.serving_input, range(first, min(first + READ, end))))
                for at, inputs in _alike(found, filling.batch):
                    filled[first + at] = filling.run(inputs)
            filled.flush()
            (marks / str(start)).touch()
            progress(end, rows)
    processes.wait()


def _alike(
    inputs: list[NDArray[np.float32] | None], batch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Batches of inputs of one shape, with their positions."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, values in enumerate(inputs):
        if values is not None:
            by_shape.setdefault(values.shape, []).append(number)
    for numbers in by_shape.values():
        for start in range(0, len(numbers), batch):
            at = numbers[start : start + batch]
            yield np.array(at), np.stack([inputs[number] for number in at])  # type: ignore[misc]
