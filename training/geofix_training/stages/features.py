"""The features of all images of a collection, by the trained backbone: one array on disk, filled in shards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from geofix_training.data.images import Images
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.networks import feature_of
from geofix_training.stages.classifier import trained_classifier
from geofix_training.stages.work import Work

SHARD = 512
"""Rows between two marks of what is done."""
BATCH = 32


def extract_features(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `features.npy`; shards that are marked as done are kept, and each process takes its share of the others.

    A row whose image cannot be read is NaN, and is named in `unreadable.csv`.
    """
    config = work.experiment.backbone
    if config is None:
        return
    network = trained_classifier(work, work.experiment).to(processes.device)
    rows, marks = len(work.index), work.stage("features_done")
    if processes.main and not work.features.exists():
        partial = work.features.with_suffix(".partial.npy")
        blank = np.lib.format.open_memmap(partial, "w+", np.float16, (rows, network.dim))
        blank.flush()
        partial.replace(work.features)
        marks.mkdir(exist_ok=True)
    processes.wait()
    features = np.lib.format.open_memmap(work.features, "r+")
    images = Images(work.index, config, work.unreadable)
    shards = range(0, rows, SHARD)
    for number, start in enumerate(shards):
        if number % processes.world != processes.rank or (marks / str(start)).exists():
            continue
        end = min(start + SHARD, rows)
        inputs = [images.serving_input(row) for row in range(start, end)]
        features[start:end] = np.nan
        for at, batch in _alike(inputs):
            tensor = torch.from_numpy(batch).to(processes.device)
            features[start + at] = feature_of(network.backbone, tensor).numpy()
        features.flush()
        (marks / str(start)).touch()
        progress(end, rows)
    processes.wait()


def _alike(inputs: list[NDArray[np.float32] | None]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Batches of inputs of one shape, with their positions."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, values in enumerate(inputs):
        if values is not None:
            by_shape.setdefault(values.shape, []).append(number)
    for numbers in by_shape.values():
        for start in range(0, len(numbers), BATCH):
            at = numbers[start : start + BATCH]
            yield np.array(at), np.stack([inputs[number] for number in at])  # type: ignore[misc]
