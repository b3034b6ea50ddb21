"""Arrays on disk with a row for every image of a collection, filled by a network in shards."""

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
from geofix_training.experiment import BackboneConfig
from geofix_training.stages.work import Work

SHARD = 512
"""Rows between two marks of what is done."""
READ = 32
"""Rows decoded at a time."""
READERS = 4
"""Threads that decode them."""

Run = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], ...]]


@dataclass(frozen=True)
class Filling:
    """What fills arrays (rows, dim).

    Attributes:
        dims: path -> values a row. The arrays are float16; a row whose image cannot be read is NaN, and is named in
            `unreadable.csv`.
        marks: folder for the marks of shards that are done; those are kept.
        batch: images in one pass.
        config: how images are read.
        run: the network, images (n, 3, h, w) to one (n, dim) for each array.
    """

    dims: dict[Path, int]
    marks: Path
    batch: int
    config: BackboneConfig
    run: Run


def fill(work: Work, filling: Filling, processes: Processes, progress: Progress) -> None:
    """Fill the arrays; each process takes its share of the shards that are not marked as done."""
    rows, marks = len(work.index), filling.marks
    for path, dim in filling.dims.items():
        if processes.main and not path.exists():
            partial = path.with_suffix(".partial.npy")
            blank = np.lib.format.open_memmap(partial, "w+", np.float16, (rows, dim))
            blank.flush()
            partial.replace(path)
            marks.mkdir(exist_ok=True)
    processes.wait()
    arrays = [np.lib.format.open_memmap(path, "r+") for path in filling.dims]
    images = Images(work.index, filling.config, work.unreadable)
    with ThreadPoolExecutor(READERS) as readers:
        for number, start in enumerate(range(0, rows, SHARD)):
            if number % processes.world != processes.rank or (marks / str(start)).exists():
                continue
            end = min(start + SHARD, rows)
            for array in arrays:
                array[start:end] = np.nan
            for first in range(start, end, READ):
                found = list(readers.map(images.serving_input, range(first, min(first + READ, end))))
                for at, inputs in _alike(found, filling.batch):
                    for array, values in zip(arrays, filling.run(inputs), strict=True):
                        array[first + at] = values
            for array in arrays:
                array.flush()
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
